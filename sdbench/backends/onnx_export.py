"""Networks written as ONNX by a process of its own, because exporting takes several times the memory of the network."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdbench.backends.base import where_memory_ran_out
from sdbench.backends.onnx_cache import GRAPH_NAME, ExportFacts
from sdbench.backends.onnx_parts import Traceable, part_of, trace_part
from sdbench.models.pipeline import build_pipeline
from sdbench.processes import die_with
from sdbench.schema.base import Model, PositiveInt
from sdbench.schema.experiment import Experiment
from sdbench.schema.workload_results import ExportedPart

# -P: an onnx.py in the current folder is not what exports.
EXPORT_COMMAND = (sys.executable, "-P", "-m", "sdbench.backends.onnx_export")
# torch.onnx's spellings of an operator it cannot handle, and of one it failed at.
_OPERATORS = (re.compile(r"OpOverload\(op='([\w.]+)'"), re.compile(r"torch\.ops\.(\w+\.\w+)"))
_DTYPES = {"FLOAT": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16"}


class ExportFailed(Exception):
    """A network cannot be written as ONNX; the message names the part, and the operator where there is one."""


class ExportRequest(Model):
    """What the exporting process is to write: each part into a folder of its own."""

    parent_pid: PositiveInt
    experiment: Experiment
    cache_folder: Path
    opset: PositiveInt
    folders: dict[ExportedPart, Path]


class ExportReply(Model):
    """Its answer: the facts of each part, or why it failed, and whether it ran out of memory."""

    facts: dict[ExportedPart, ExportFacts]
    failure: str
    out_of_memory: bool


def export_in_child(
    experiment: Experiment, cache_folder: Path, opset: int, folders: Mapping[ExportedPart, Path]
) -> dict[ExportedPart, ExportFacts]:
    """Write the graph and data of each part into its folder, in a process of its own, and return the facts of each.

    Raises:
        ExportFailed: a part cannot be exported.
        MemoryError: the host's memory did not suffice.
    """
    request = ExportRequest(
        parent_pid=os.getpid(), experiment=experiment, cache_folder=cache_folder, opset=opset, folders=dict(folders)
    )
    done = subprocess.run(EXPORT_COMMAND, input=request.model_dump_json().encode(), stdout=subprocess.PIPE)
    if done.returncode == -signal.SIGKILL:
        # Whoever stops a run kills this process too, so it was the kernel.
        raise MemoryError("the export to ONNX was killed, as the kernel does when the host's memory runs out")
    if not done.stdout:
        raise ExportFailed(f"the export to ONNX ended with {done.returncode} and no answer; see its standard error")
    reply = ExportReply.model_validate_json(done.stdout)
    if reply.out_of_memory:
        raise MemoryError(reply.failure)
    if reply.failure:
        raise ExportFailed(reply.failure)
    return reply.facts


def main() -> int:
    """Read a request on standard input, export, and write the reply to standard output."""
    # What the libraries print goes to standard error, except their deprecations.
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        request = ExportRequest.model_validate_json(sys.stdin.buffer.read())
        die_with(request.parent_pid)
        try:
            reply = ExportReply(facts=export_parts(request), failure="", out_of_memory=False)
        except Exception as error:  # noqa: BLE001 - a process boundary: the parent raises it again
            out_of_memory = where_memory_ran_out(error) is not None
            reply = ExportReply(facts={}, failure=str(error) or type(error).__name__, out_of_memory=out_of_memory)
            sys.excepthook(type(error), error, error.__traceback__)
        replies.write(reply.model_dump_json().encode())
    return 0


def export_parts(request: ExportRequest) -> dict[ExportedPart, ExportFacts]:
    """Build the networks once and write each requested part; what ``write_graph`` raises ends it."""
    built = build_pipeline(request.experiment, "cpu", request.cache_folder)
    facts: dict[ExportedPart, ExportFacts] = {}
    components = {part_of(component): component for component in built.config.networks}
    for part, folder in request.folders.items():
        started_s = time.monotonic()
        traceable = trace_part(components[part], built.pipeline, built.config)
        dtypes = write_graph(part, traceable, folder, request.opset)
        facts[part] = ExportFacts(
            export_s=time.monotonic() - started_s,
            weights_digest=built.weights_digest,
            parameter_count=built.parameter_count,
            weights_dtypes=dtypes,
        )
    return facts


def write_graph(part: str, traceable: Traceable, folder: Path, opset: int) -> tuple[str, ...]:
    """Write a network's graph and its data into ``folder`` and return the types of its weights ("fp16", ...).

    The graph is in version ``opset`` of ONNX's operators.

    Raises:
        ExportFailed: torch cannot export it; the message names the operator.
    """
    import torch

    examples, free = zip(*traceable.inputs.values(), strict=True)
    try:
        # In two steps: given the module, torch.onnx took 1.8 times as long (82 s against 46 s, UNet of `tiny-sd`).
        traced = torch.export.export(
            traceable.module.eval(),
            examples,
            dynamic_shapes=(tuple(dict.fromkeys(dimensions, torch.export.Dim.DYNAMIC) for dimensions in free),),
            strict=False,
        )
        program: Any = torch.onnx.export(
            traced,
            input_names=list(traceable.inputs),
            output_names=list(traceable.outputs),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        if where_memory_ran_out(error):
            raise
        raise ExportFailed(explain(part, error)) from error
    # It holds stack traces with the paths of this machine, and would make two machines' files differ.
    for item in (program.model, program.model.graph, *program.model.graph.all_nodes()):
        item.metadata_props.clear()
    program.save(folder / GRAPH_NAME, external_data=True)
    # Matrices and kernels: biases follow them, and tables of constants have another type.
    weights = [
        value
        for value in program.model.graph.initializers.values()
        if value.dtype.is_floating_point()
        and sum(length > 1 for length in value.shape) > 1
        and not (value.dtype.name == "FLOAT" and tuple(sorted(value.shape)) in traceable.kept_in_fp32)
    ]
    return tuple(sorted({_DTYPES.get(value.dtype.name, str(value.dtype)) for value in weights}))


def explain(part: str, error: BaseException) -> str:
    """Return why a part cannot be exported, with the operator's name where the exporter gives it."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    matches = (pattern.search(str(cause)) for pattern in _OPERATORS for cause in reversed(causes))
    if match := next(filter(None, matches), None):
        reason = f": torch.onnx fails at the operator {match[1]}"
    else:
        first_line = str(causes[-1]).partition("\n")[0]
        reason = f" ({type(causes[-1]).__name__}: {first_line})"
    hint = "use backend: pytorch, or other versions of torch and onnxscript"
    return f"the {part} cannot be exported to ONNX{reason}; {hint}"


if __name__ == "__main__":
    sys.exit(main())
