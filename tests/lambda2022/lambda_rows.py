"""Rows of the 2022 study's CSV for tests: in the normal form of a dialect, grouped by device."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from sdbench.lambda2022.csv_file import FULL, SHORT, LambdaRow
from sdbench.lambda2022.fields import BYTES_PER_GB, PRECISIONS, RUNTIMES, has_no_memory, is_cpu
from sdbench.schema.experiment import Experiment

Dialect = Literal["plain", "header", "full"]
DIALECTS: tuple[Dialect, ...] = ("plain", "header", "full")
DEVICES = ("NVIDIA RTX A6000", "AMD EPYC 7352, 24-Core Processor", 'The "big" one', "Xeon-7", "xeon 7", "Größe 3")


def make_row(device: str = DEVICES[0], latency_s: float | None = 8.09, **changes: Any) -> LambdaRow:
    options: dict[str, Any] = {"pipeline": "sd-1.4", "weights": "pretrained"}
    options["hub_id"] = "CompVis/stable-diffusion-v1-4"
    if changes.get("backend") != "onnxruntime":
        options |= {"attention": "eager", "tf32": "convolutions"}
    fields = {name: changes.pop(name) for name in ("autocast_recorded", "memory_bytes") if name in changes}
    experiment = Experiment.model_validate(options | changes)
    given: dict[str, Any] = {
        "autocast_recorded": True,
        "memory_bytes": None if latency_s is None else 7_750_000_000,
    } | fields
    if has_no_memory(device, experiment) and "memory_bytes" not in fields:
        given["memory_bytes"] = None
    return LambdaRow(device=device, experiment=experiment, latency_s=latency_s, **given)


@st.composite
def rows_of(draw: st.DrawFn, dialect: Dialect) -> list[LambdaRow]:
    steps = draw(st.sampled_from((50, 30)))
    rows = []
    for device in draw(st.lists(st.sampled_from(DEVICES), min_size=1, max_size=4, unique=True)):
        keys = st.tuples(
            st.sampled_from(("fp32", "fp16")), st.sampled_from(("pytorch", "onnxruntime")), st.integers(1, 4096)
        )
        for precision, backend, batch in draw(st.lists(keys, min_size=1, max_size=5, unique=True)):
            rows.append(draw(one_row(dialect, device, precision, backend, batch, steps)))
    return rows


@st.composite
def one_row(  # noqa: PLR0917 - one argument for each column
    draw: st.DrawFn, dialect: Dialect, device: str, precision: str, backend: str, batch: int, steps: int
) -> LambdaRow:
    full, torch_fp16 = dialect == "full", (precision, backend) == ("fp16", "pytorch")
    recorded = not torch_fp16 or (full and draw(st.booleans()))
    on_pytorch = full and backend == "pytorch"
    autocast = "fp16" if on_pytorch and recorded and draw(st.booleans()) else "off"
    recorded = recorded or is_cpu(device)
    if not recorded:
        autocast = "fp16"
    attention = "sdpa" if backend == "onnxruntime" else "eager"
    if on_pytorch and draw(st.booleans()):
        attention = "xformers"
    latency_s = draw(st.none() | st.integers(1, 10**7).map(lambda value: value / 100))
    memory_bytes = None
    if latency_s is not None:
        memory_bytes = draw(st.none() | st.integers(1, 10**5).map(lambda value: value * 10**7))
    return make_row(
        device, latency_s, precision=precision, backend=backend, batch=batch, steps=steps, autocast=autocast,
        attention=attention, autocast_recorded=recorded, memory_bytes=memory_bytes,
    )  # fmt: skip


def write_lambda_csv(rows: Sequence[LambdaRow], dialect: Dialect) -> str:
    """Return rows as the tool wrote them: ``plain`` as in 2022, ``header`` with names, ``full`` with all columns."""
    columns = FULL if dialect == "full" else SHORT
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if dialect != "plain":
        writer.writerow([*columns, ""] if dialect == "full" else columns)
    writer.writerows([_cells(row)[column] for column in columns] for row in rows)
    return stream.getvalue()


def _cells(row: LambdaRow) -> dict[str, str]:
    experiment = row.experiment
    unknown = "0.0" if has_no_memory(row.device, experiment) else ""
    memory = unknown if row.memory_bytes is None else str(row.memory_bytes / BYTES_PER_GB)
    return {
        "device": row.device,
        "precision": next(word for word, meaning in PRECISIONS.items() if meaning == experiment.precision),
        "autocast": str(experiment.autocast != "off").upper() if row.autocast_recorded else "",
        "xformers": str(experiment.attention == "xformers").upper(),
        "runtime": next(word for word, meaning in RUNTIMES.items() if meaning == experiment.backend),
        "n_samples": str(experiment.batch),
        "latency": "-1.0" if row.latency_s is None else str(row.latency_s),
        "memory": "-1.0" if row.latency_s is None else memory,
    }
