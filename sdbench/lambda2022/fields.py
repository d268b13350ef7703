"""What a cell of the 2022 study's CSV files means, and what is wrong with it: every reader raises ValueError."""

import re
from collections.abc import Callable, Mapping
from math import isinf
from typing import Any

from pydantic import ValidationError

from sdbench.schema.experiment import Experiment

# More than any device has, and few enough that bytes stay exact in a float.
MAX_MEMORY_GB = 1e6
MAX_NAME_CHARACTERS = 200
# No machine ends a pipeline call sooner; the tool itself rounds to 0.01 s.
MIN_LATENCY_S = 1e-4
FAILURE_MARK = -1.0
BYTES_PER_GB = 1e9

PRECISIONS: Mapping[str, Any] = {"single": "fp32", "half": "fp16"}
RUNTIMES: Mapping[str, Any] = {"pytorch": "pytorch", "onnx": "onnxruntime"}
_BOOLEANS: Mapping[str, Any] = {"true": True, "false": False, "": None}
# Options whose column has another name.
_COLUMNS = {"batch": "n_samples", "backend": "runtime", "attention": "xformers"}
_NUMBER = re.compile(r"(?P<number>[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?)\s*(?P<unit>[a-zA-Z]*)", re.ASCII)
_CPU_NAME = re.compile(
    r"\b(cpu|processor|epyc|xeon|ryzen|threadripper|core i\d|core ultra|apple m\d+)\b|core\(tm\)", re.IGNORECASE
)
_SHOWN_CHARACTERS = 60


def is_cpu(device: str) -> bool:
    """Return whether a device's name is a CPU's; all others are CUDA GPUs, even those without a memory value."""
    return _CPU_NAME.search(device) is not None


def has_no_memory(device: str, experiment: Experiment) -> bool:
    """Return whether the tool had no memory value: torch sees neither a CPU's memory nor onnxruntime's."""
    return is_cpu(device) or experiment.backend == "onnxruntime"


def make_experiment(values: Mapping[str, Any]) -> Experiment:
    """Return the experiment that a row's values describe.

    The tool ran torch with TF32 at its default, diffusers without SDPA, and half precision under autocast:
    ``scripts/benchmark.py`` of LambdaLabsML/lambda-diffusers at 0c9fbc7 wraps every half-precision CUDA call in
    ``autocast("cuda")``. A column of the file overrides these defaults.

    Raises:
        ValueError: an option is out of range, or options contradict.
    """
    options: dict[str, Any] = {}
    if values["runtime"] == "pytorch":
        under_autocast = values["precision"] == "fp16" and not is_cpu(values["device"])
        options = {"autocast": "fp16" if under_autocast else "off", "attention": "eager", "tf32": "convolutions"}
    if values.get("autocast") is not None:
        options["autocast"] = "fp16" if values["autocast"] else "off"
    if values.get("xformers"):
        options["attention"] = "xformers"
    try:
        return Experiment(
            pipeline="sd-1.4",
            weights="pretrained",
            hub_id="CompVis/stable-diffusion-v1-4",
            precision=values["precision"],
            backend=values["runtime"],
            batch=values["n_samples"],
            steps=values["steps"],
            **options,
        )
    except ValidationError as error:
        detail = error.errors()[0]
        option = " ".join(f"{_COLUMNS.get(str(part), part)} is {detail['input']!r}:" for part in detail["loc"])
        raise ValueError(f"{option} {detail['msg'].removeprefix('Value error, ')}".strip()) from None


def check_values(
    device: str, experiment: Experiment, latency_s: float, memory_gb: float | None
) -> tuple[float | None, int | None]:
    """Return latency (s), None at the failure mark, and memory (bytes), None where unknown.

    Raises:
        ValueError: latency and memory contradict each other.
    """
    if latency_s == FAILURE_MARK:
        if memory_gb not in (None, FAILURE_MARK):
            raise ValueError(f"latency -1 marks out of memory, but memory is {memory_gb:g}; write -1 for both")
        return None, None
    if memory_gb is None or (memory_gb in (0.0, FAILURE_MARK) and has_no_memory(device, experiment)):
        return latency_s, None
    if round(memory_gb * BYTES_PER_GB) <= 0:
        raise ValueError(f"memory {memory_gb:g} with a latency of {latency_s:g}; leave the cell empty if it is unknown")
    return latency_s, round(memory_gb * BYTES_PER_GB)


def _read_device(text: str) -> str:
    if not text or not text.isprintable() or len(text) > MAX_NAME_CHARACTERS:
        raise ValueError(f"{quote(text)} is not a device name; write what the device is called")
    return text


def _choose(table: Mapping[str, Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if text.lower() not in table:
            words = " or ".join(word.upper() if isinstance(table[word], bool) else word for word in table if word)
            raise ValueError(f"{quote(text)} is unknown; expected {words}")
        return table[text.lower()]

    return read


def _read_count(text: str) -> int:
    is_integer = re.fullmatch(r"[-+]?\d{1,9}", text, re.ASCII)
    if not is_integer or int(text) < 1:
        raise ValueError(f"{quote(text)} is {'below 1' if is_integer else 'not an integer'}; expected 1 or more")
    return int(text)


def _read_latency(text: str) -> float:
    hint = "expected seconds, or -1 for out of memory"
    value = _read_number(text, {"": 1.0, "s": 1.0, "ms": 1e-3}, hint)
    if 0 < value < MIN_LATENCY_S:
        raise ValueError(f"{quote(text)} is shorter than any call; {hint}")
    if value <= 0 and value != FAILURE_MARK:
        raise ValueError(f"{quote(text)} is not positive; {hint}")
    return value


def _read_memory(text: str) -> float | None:
    if text.lower() in ("", "not measured"):
        return None
    hint = "expected units of 1e9 bytes, or an empty cell"
    value = _read_number(text, {"": 1.0, "g": 1.0, "gb": 1.0}, hint)
    if (value < 0 and value != FAILURE_MARK) or value > MAX_MEMORY_GB:
        raise ValueError(f"{quote(text)} is out of range; {hint}")
    return value


def _read_number(text: str, units: Mapping[str, float], hint: str) -> float:
    """Return the number in a cell; early files have its unit behind it."""
    match = _NUMBER.fullmatch(text)
    if match is None or match["unit"].lower() not in units or isinf(float(match["number"])):
        raise ValueError(f"{quote(text)} is not a finite number; {hint}")
    return float(match["number"]) * units[match["unit"].lower()]


def quote(text: str) -> str:
    """Return a cell for a message: quoted, and cut where it is long."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


READERS: Mapping[str, Callable[[str], Any]] = {
    "device": _read_device,
    "precision": _choose(PRECISIONS),
    "autocast": _choose(_BOOLEANS),
    "xformers": _choose(_BOOLEANS),
    "runtime": _choose(RUNTIMES),
    "n_samples": _read_count,
    "latency": _read_latency,
    "memory": _read_memory,
    "steps": _read_count,
}
