"""``sdbench ceilings``: what this machine reaches at best, next to its data sheet."""

import argparse
import json
from collections.abc import Iterator
from typing import get_args

from sdbench.cli.options import add_json_option
from sdbench.cli.output import complain, make_table, open_console, show, show_progress
from sdbench.compare.data_sheets import DataSheet, find_data_sheet
from sdbench.errors import EnvironmentProblem, UserError
from sdbench.probes.devices import Device, choose_device
from sdbench.runner.ceilings import measure_device
from sdbench.runner.interrupts import terminate_as_interrupt
from sdbench.schema.base import Known, Reading, Unknown
from sdbench.schema.ceilings import CeilingPrecision, Ceilings
from sdbench.units import format_rate

_PRECISIONS: tuple[CeilingPrecision, ...] = get_args(CeilingPrecision)
_COLUMNS = ("what", "how", "measured", "data sheet", "share")
_OWN_COLUMNS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    text = "of matrix products (default: all that the device has)"
    parser.add_argument(
        "--precision", action="append", choices=_PRECISIONS, default=[], help=f"{text}; may be repeated"
    )
    add_json_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Measure, print a table and return 0.

    Raises:
        UserError: the device has no such precision.
        EnvironmentProblem: the worker failed.
    """
    device = choose_device(options.device)
    own = [name for name in _PRECISIONS if device.kind == "cuda" or name != "tf32"]
    if "tf32" in options.precision and "tf32" not in own:
        raise UserError("--precision tf32 is for NVIDIA GPUs; on the CPU use fp32")
    precisions = tuple(dict.fromkeys(options.precision or own))
    with terminate_as_interrupt():
        measured = measure_device(device, precisions, _report_waiting)
    if isinstance(measured.reading, Unknown):
        raise EnvironmentProblem(f"the ceilings were not measured: {measured.reading.reason}; see sdbench doctor")
    ceilings, sheet = measured.reading.value, find_data_sheet(device.name)
    if measured.failure:
        complain(f"warning: {measured.failure}")
    if options.json:
        show(json.dumps({"ceilings": ceilings.to_json_dict(), "data_sheet": sheet and sheet.to_json_dict()}))
    else:
        _print(device, ceilings, sheet)
    return 0


def _report_waiting(holder: str) -> None:
    show_progress(f"the device is held by {holder}; waiting for it to finish")


def _print(device: Device, ceilings: Ceilings, sheet: DataSheet | None) -> None:
    show(f"{device.description}, {ceilings.threads} threads: the best of several samples each")
    shown = len(_COLUMNS) if sheet else _OWN_COLUMNS
    rows = (row[:shown] for row in _rows(ceilings, sheet))
    open_console(120).print(make_table(_COLUMNS[:shown], rows, right=_COLUMNS[2:shown]))
    if sheet:
        show(f"data sheet: {sheet.name}, {sheet.source}")


def _rows(ceilings: Ceilings, sheet: DataSheet | None) -> Iterator[tuple[str, ...]]:
    for item in ceilings.matrix_products:
        peak = sheet.flop_per_s(item.precision) if sheet else None
        yield (f"matrix product {item.precision}", item.shape, *_cells(item.flop_per_s, peak, "FLOP/s"))
    peak = sheet.memory_bytes_per_s if sheet else None
    yield ("memory", "copy or sum of arrays", *_cells(ceilings.memory_bytes_per_s, peak, "B/s"))
    if ceilings.device.startswith("cuda"):
        yield ("host to device", "pinned", *_cells(ceilings.to_device_bytes_per_s, None, "B/s"))
        yield ("device to host", "pinned", *_cells(ceilings.from_device_bytes_per_s, None, "B/s"))
    launch = ceilings.launch_s
    yield ("launch", "a minimal operator", f"{launch.value * 1e6:.3g} us" if isinstance(launch, Known) else "", "", "")


def _cells(reading: Reading[float], peak: float | None, unit: str) -> tuple[str, str, str]:
    """What was measured, the data sheet's, and the share of it."""
    known = reading.value if isinstance(reading, Known) else None
    share = f"{known / peak:.0%}" if known and peak else ""
    return ("" if known is None else format_rate(known, unit)), ("" if peak is None else format_rate(peak, unit)), share
