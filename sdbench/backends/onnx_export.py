"""Networks written as ONNX by a process of its own, because exporting takes several times the memory of the network."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdbench.backends.base import where_memory_ran_out
from sdbench.backends.onnx_cache import GRAPH_NAME, ExportFacts
from sdbench.backends.orphans import die_with
from sdbench.models.pipeline import BuiltPipeline, build_pipeline
from sdbench.schema.base import Model, PositiveInt
from sdbench.schema.experiment import Experiment
from sdbench.schema.study import ExportedPart

if TYPE_CHECKING:
    import torch

# -P: an onnx.py in the current folder is not what exports.
EXPORT_COMMAND = (sys.executable, "-P", "-m", "sdbench.backends.onnx_export")
OUTPUT_NAME = "output"
# torch.onnx's spellings of an operator it cannot handle, and of one it failed at.
_OPERATORS = (re.compile(r"OpOverload\(op='([\w.]+)'"), re.compile(r"torch\.ops\.(\w+\.\w+)"))
# No side is a multiple of two, so that the UNet upsamples to sizes it is given instead of doubling: only then does the
# graph hold for every size. All lengths differ at every depth, so that none is taken for another.
_EXAMPLE_LATENTS = (17, 27)
_EXAMPLE_BATCH = 2


class ExportFailed(Exception):
    """A network cannot be written as ONNX; the message names the part, and the operator where there is one."""


class ExportRequest(Model):
    """What the exporting process is asked for: each part into a folder of its own."""

    parent_pid: PositiveInt
    experiment: Experiment
    cache_folder: str
    folders: dict[ExportedPart, str]


class ExportReply(Model):
    """What it answers: the facts of each part, or why it failed, and whether for want of memory."""

    facts: dict[ExportedPart, ExportFacts]
    failure: str
    out_of_memory: bool


@dataclass(frozen=True)
class Traceable:
    """A network as torch exports it: inputs by name as examples, and which of their dimensions are free.

    The module's ``forward`` takes ``*inputs`` and returns one tensor.
    """

    module: Any
    inputs: "dict[str, torch.Tensor]"
    free_dimensions: dict[str, tuple[int, ...]]


def export_in_child(
    experiment: Experiment, cache_folder: Path, folders: Mapping[ExportedPart, Path]
) -> dict[ExportedPart, ExportFacts]:
    """Write the graph and data of each part into its folder, in a process of its own, and return what it found.

    Raises:
        ExportFailed: a part cannot be exported.
        MemoryError: the host's memory did not suffice.
    """
    request = ExportRequest(
        parent_pid=os.getpid(),
        experiment=experiment,
        cache_folder=str(cache_folder),
        folders={part: str(folder) for part, folder in folders.items()},
    )
    done = subprocess.run(EXPORT_COMMAND, input=request.model_dump_json().encode(), stdout=subprocess.PIPE)
    if done.returncode == -signal.SIGKILL:
        # Whoever stops a run kills this process too, so what is left is the kernel.
        raise MemoryError("the export to ONNX was killed, as the kernel does when the host's memory runs out")
    if not done.stdout:
        raise ExportFailed(f"the export to ONNX ended with {done.returncode} and no word; standard error may say why")
    reply = ExportReply.model_validate_json(done.stdout)
    if reply.out_of_memory:
        raise MemoryError(reply.failure)
    if reply.failure:
        raise ExportFailed(reply.failure)
    return reply.facts


def main() -> int:
    """Read a request on standard input, export, and write the reply to standard output."""
    # The libraries print as they please; what they say goes to standard error, less their deprecations.
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        request = ExportRequest.model_validate_json(sys.stdin.buffer.read())
        die_with(request.parent_pid)
        try:
            reply = ExportReply(facts=export_parts(request), failure="", out_of_memory=False)
        except Exception as error:  # noqa: BLE001 - a process boundary: the parent raises it again
            short_of_memory = where_memory_ran_out(error) is not None
            reply = ExportReply(facts={}, failure=str(error) or type(error).__name__, out_of_memory=short_of_memory)
            sys.excepthook(type(error), error, error.__traceback__)
        replies.write(reply.model_dump_json().encode())
    return 0


def export_parts(request: ExportRequest) -> dict[ExportedPart, ExportFacts]:
    """Build the networks once and write each part that is asked for.

    Raises:
        ExportFailed: a part cannot be exported.
    """
    built = build_pipeline(request.experiment, "cpu", Path(request.cache_folder))
    facts: dict[ExportedPart, ExportFacts] = {}
    for part, folder in request.folders.items():
        started_s = time.monotonic()
        dtypes = write_graph(part, traceable_part(part, built), Path(folder))
        facts[part] = ExportFacts(
            export_s=time.monotonic() - started_s,
            weights_digest=built.weights_digest,
            parameter_count=built.parameter_count,
            weights_dtypes=dtypes,
        )
    return facts


def write_graph(part: str, network: Traceable, folder: Path) -> tuple[str, ...]:
    """Write a network's graph and its data into ``folder`` and return the types of its weights ("fp16", ...).

    Raises:
        ExportFailed: torch cannot export it; the message names the operator.
    """
    import torch

    free = torch.export.Dim.DYNAMIC
    shapes = {name: dict.fromkeys(dimensions, free) for name, dimensions in network.free_dimensions.items()}
    try:
        # In two steps: given the module, torch.onnx took 1.8 times as long (82 s against 46 s for the UNet of `tiny`).
        traced = torch.export.export(
            network.module.eval(),
            tuple(network.inputs.values()),
            dynamic_shapes=(tuple(shapes.get(name, {}) for name in network.inputs),),
            strict=False,
        )
        program: Any = torch.onnx.export(
            traced, input_names=list(network.inputs), output_names=[OUTPUT_NAME], dynamo=True, verbose=False
        )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        if where_memory_ran_out(error):
            raise
        raise ExportFailed(explain(part, error)) from error
    # It holds stack traces with the paths of this machine, and would make two machines' files differ.
    program.model.metadata_props.clear()
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(folder / GRAPH_NAME, external_data=True)
    return tuple(sorted({_name(value) for value in program.model.graph.initializers.values() if _is_weight(value)}))


def explain(part: str, error: BaseException) -> str:
    """Return why a part cannot be exported, with the operator's name where the exporter says it."""
    causes = tuple(_causes(error))
    for pattern in _OPERATORS:
        for cause in reversed(causes):
            if match := pattern.search(str(cause)):
                return (
                    f"the {part} cannot be exported to ONNX: torch.onnx fails at the operator {match[1]}; "
                    "use backend: pytorch, or other versions of torch and onnxscript"
                )
    first_line = str(causes[-1]).partition("\n")[0]
    return (
        f"the {part} cannot be exported to ONNX ({type(causes[-1]).__name__}: {first_line}); "
        "use backend: pytorch, or other versions of torch and onnxscript"
    )


def traceable_part(part: ExportedPart, built: BuiltPipeline) -> Traceable:
    """Return one network of a pipeline as torch exports it."""
    import torch

    pipeline = built.pipeline
    dtype, batch = pipeline.unet.dtype, _EXAMPLE_BATCH
    latents = torch.zeros(batch, pipeline.unet.config.in_channels, *_EXAMPLE_LATENTS, dtype=dtype)
    token_count = pipeline.tokenizer.model_max_length
    if part == "text_encoder":
        ids = torch.zeros(batch, token_count, dtype=torch.int64)
        return _traceable(pipeline.text_encoder, None, {"input_ids": ids}, {"input_ids": (0,)})
    if part == "vae_decoder":
        return _traceable(pipeline.vae, "decode", {"latents": latents}, {"latents": (0, 2, 3)})
    states = torch.zeros(batch, token_count, pipeline.unet.config.cross_attention_dim, dtype=dtype)
    return _traceable(
        pipeline.unet,
        None,
        # Schedulers count in integers or in floats; the UNet makes a float of either.
        {"sample": latents, "timestep": torch.tensor(1.0), "encoder_hidden_states": states},
        {"sample": (0, 2, 3), "encoder_hidden_states": (0,)},
    )


def _traceable(
    network: Any, method: str | None, inputs: "dict[str, torch.Tensor]", free_dimensions: dict[str, tuple[int, ...]]
) -> Traceable:
    import torch

    class FirstOutput(torch.nn.Module):
        """A network called with tensors alone, of whose outputs only the first is used."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *inputs: "torch.Tensor") -> Any:
            call = getattr(self.network, method) if method else self.network
            return call(*inputs, return_dict=False)[0]

    return Traceable(FirstOutput(), inputs, free_dimensions)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _is_weight(value: Any) -> bool:
    """Whether an initializer is a matrix or kernel; biases follow them, and tables of constants have another type."""
    return bool(value.dtype.is_floating_point()) and sum(length > 1 for length in value.shape) > 1


def _name(value: Any) -> str:
    return {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}.get(value.dtype.name, str(value.dtype))


if __name__ == "__main__":
    sys.exit(main())
