"""Which attention kernels really ran: the operators that torch chose and, on a GPU, the kernels they launched."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sdbench.schema.experiment import Attention
from sdbench.schema.outcome import Check

if TYPE_CHECKING:
    import torch

_NAME = "attention kernels"
# By torch's operators (native_functions.yaml) and by the kernels of its CUDA libraries; the first that matches, because
# names of cuDNN's kernels hold "flash" too.
_KINDS = {
    "cudnn": re.compile(r"_cudnn_attention|cudnn_generated\w*sdpa", re.IGNORECASE),
    "efficient": re.compile(r"_efficient_attention|fmha_cutlass", re.IGNORECASE),
    "flash": re.compile(r"_flash_attention|flash_fwd", re.IGNORECASE),
    "math": re.compile(r"_attention_math|_softmax|softmax_warp|SoftMaxForward", re.IGNORECASE),
}
_NAME_CHARACTERS = 60
_BLOCK = re.compile(r"(transformer_blocks|layers)\.0$")


class _AttentionRan(Exception):
    """The attention has run: the rest of the pipeline call is not needed."""


def observe_attention(network: Any, device: "torch.device", attention: Attention, call: Callable[[], object]) -> Check:
    """Return the check of the kernels in the denoiser's first block, by a pipeline call that ends there.

    On a GPU the whole ``network`` is profiled instead: kernels depend on the size of a head, which grows with depth.
    Run it after the timed calls, because CUPTI, once it was used, may stay in the process.
    """
    import torch

    whole = device.type == "cuda"
    block = network if whole else next(m for n, m in network.named_modules() if _BLOCK.search(n))
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, activity.CUDA] if whole else [activity.CPU]
    # acc_events: without it torch 2.10 warns that it clears the events of a cycle, of which there is one.
    profiler: Any = torch.profiler.profile(activities=activities, acc_events=True)
    handles = [block.register_forward_pre_hook(lambda *_: profiler.start()), block.register_forward_hook(_end)]
    try:
        call()
    except _AttentionRan:
        profiler.stop()
    except RuntimeError as error:
        return _not_observed(attention, str(error).partition("\n")[0])
    finally:
        for handle in handles:
            handle.remove()
    return describe_attention(attention, (event.name for event in profiler.events() or ()))


def describe_attention(attention: Attention, names: Iterable[str]) -> Check:
    """Return the check of the kinds of attention among names of operators and kernels, each with its own kernel."""
    kernels = find_attention_kinds(names)
    if not kernels:
        return _not_observed(attention, "the profiler saw no attention")
    expected = _expected(attention)
    observed = ", ".join(f"{kind} ({_shorten(name)})" for kind, name in sorted(kernels.items()))
    return Check(name=_NAME, expected=expected, observed=observed, passed=expected == "any" or {expected} == {*kernels})


def find_attention_kinds(names: Iterable[str]) -> dict[str, str]:
    """Return the kinds of attention among names of operators and kernels, each with one of its names."""
    kernels: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name.startswith("aten::")):
        kind = next((kind for kind, pattern in _KINDS.items() if pattern.search(name)), None)
        if kind:
            kernels.setdefault(kind, name)
    return kernels


def _end(*_: Any) -> None:
    raise _AttentionRan


def _expected(attention: Attention) -> str:
    return attention.removeprefix("sdpa-") if attention.startswith("sdpa-") else "any"


def _not_observed(attention: Attention, reason: str) -> Check:
    return Check(name=_NAME, expected=_expected(attention), observed=f"not observed: {reason}", passed=True)


def _shorten(kernel: str) -> str:
    """Return a kernel's name without its result and its template arguments."""
    name = kernel.removeprefix("void ").replace("(anonymous namespace)::", "")
    return name.partition("<")[0].partition("(")[0][:_NAME_CHARACTERS]
