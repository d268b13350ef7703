"""Rows of the 2022 study's CSV for tests: in the normal form of a dialect, grouped by device."""

from typing import Any

from hypothesis import strategies as st

from sdbench.schema.experiment import Experiment
from sdbench.store.lambda_csv import Dialect, LambdaRow
from sdbench.store.lambda_fields import has_no_memory_figure

DEVICES = ("NVIDIA RTX A6000", "AMD EPYC 7352, 24-Core Processor", 'The "big" one', "Xeon-7", "xeon 7", "Größe 3")


def make_row(device: str = DEVICES[0], latency_s: float | None = 8.09, **changes: Any) -> LambdaRow:
    options = {"architecture": "sd-v1-4", "weights": "pretrained", "hub_id": "CompVis/stable-diffusion-v1-4"}
    fields = {name: changes.pop(name) for name in ("autocast_recorded", "memory_bytes") if name in changes}
    experiment = Experiment.model_validate(options | changes)
    given: dict[str, Any] = {
        "autocast_recorded": True,
        "memory_bytes": None if latency_s is None else 7_750_000_000,
    } | fields
    if has_no_memory_figure(device, experiment) and "memory_bytes" not in fields:
        given["memory_bytes"] = None
    return LambdaRow(line=0, device=device, experiment=experiment, latency_s=latency_s, **given)


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
    attention = "xformers" if on_pytorch and draw(st.booleans()) else "sdpa"
    latency_s = draw(st.none() | st.integers(1, 10**7).map(lambda value: value / 100))
    memory_bytes = None
    if latency_s is not None:
        memory_bytes = draw(st.none() | st.integers(1, 10**5).map(lambda value: value * 10**7))
    return make_row(
        device, latency_s, precision=precision, backend=backend, batch=batch, steps=steps, autocast=autocast,
        attention=attention, autocast_recorded=recorded, memory_bytes=memory_bytes,
    )  # fmt: skip
