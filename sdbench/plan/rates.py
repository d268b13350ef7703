"""How many FLOP a second runs on this machine reached, for the plans of the next ones."""

from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sdbench.errors import EnvironmentProblem
from sdbench.plan.machine import rate_key
from sdbench.schema.base import Model
from sdbench.schema.metrics import latency_s
from sdbench.schema.outcome import Succeeded, measuring_launches, was_throttled
from sdbench.schema.record import Record
from sdbench.store.cache_folder import write_cached

_FILE = "rates.json"
# Smaller calls are bound by what the host does around the operators, on every device.
_FLOP_MIN = 0.2e12


class Rate(Model):
    """What the largest call reached, and how large it was."""

    flop_per_s: float
    flop: float


_RATES: TypeAdapter[dict[str, dict[str, Rate]]] = TypeAdapter(dict[str, dict[str, Rate]])


def read_rates(device_name: str, cache_folder: Path) -> dict[str, float]:
    """Return the FLOP a second that earlier runs reached on a device, by ``rate_key``."""
    return {key: rate.flop_per_s for key, rate in _read(cache_folder).get(device_name, {}).items()}


def keep_rates(record: Record, device_name: str, cache_folder: Path) -> None:
    """Remember what a run's largest calls reached; a cache that cannot be written stays as it is."""
    rates = _read(cache_folder)
    before = rates.get(device_name, {})
    after = dict(before)
    for key, rate in _rates_of(record):
        if key not in after or rate.flop >= after[key].flop:
            after[key] = rate
    if record.origin != "measured" or after == before:
        return
    with suppress(EnvironmentProblem):
        write_cached(cache_folder / _FILE, _RATES.dump_json(rates | {device_name: after}, indent=1))


def _rates_of(record: Record) -> list[tuple[str, Rate]]:
    rates = []
    for result in record.results:
        experiment, outcome = result.planned.experiment, result.outcome
        # Other backends and kernels of attention have other rates, which plans derive from these.
        if not isinstance(outcome, Succeeded) or experiment.backend != "pytorch" or experiment.attention != "sdpa":
            continue
        for launch in measuring_launches(outcome.launches):
            work, seconds = launch.environment.work, latency_s(launch)
            flop = launch.batch * sum(work.flop_per_image.values())
            if seconds and flop >= _FLOP_MIN and not was_throttled(launch):
                key = rate_key(experiment, launch.environment.threads)
                rates.append((key, Rate(flop_per_s=flop / seconds, flop=flop)))
    return rates


def _read(cache_folder: Path) -> dict[str, dict[str, Rate]]:
    with suppress(OSError, ValidationError):
        return _RATES.validate_json((cache_folder / _FILE).read_bytes())
    return {}
