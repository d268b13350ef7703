"""What many runs cost: reading, indexing, asking, publishing and pulling them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.bars import Bar, at_most
from tests.benchmarks.kills import measure_kills, remove_runs
from tests.records import make_launch, make_record, make_result

SOME, MANY, NEW, BUNDLES = 10_000, 100_000, 1_000, 500
RECORD_BYTES = 22_000
SQL = (
    "SELECT coalesce(gpu, cpu) AS device, driver, median(latency_s) AS latency_s FROM results "
    "WHERE precision = 'fp16' GROUP BY ALL"
)


def measure_store(*, many: bool = True) -> list[Bar]:
    """Return what 10,000 and 100,000 records cost to ask, and 500 bundles to publish and pull."""
    with tempfile.TemporaryDirectory() as name:
        results = Path(name)
        size_bytes = write_records(results, 0, SOME)
        bars = [Bar("record of the benchmark", f"{size_bytes / 1000:.1f} kB"), *_measure_some(results)]
        if many:
            write_records(results, SOME, MANY)
            bars += _measure_many(results)
    bars += measure_publishing()
    try:
        return bars + measure_kills()
    finally:
        remove_runs()


def write_records(results: Path, first: int, last: int) -> int:
    """Write runs of about 22 kB with numbers from ``first`` to below ``last``; return the size (bytes) of one."""
    from sdbench.schema.outcome import Succeeded
    from sdbench.store.bundle import encode_record

    text, content = "", {}
    for count in range(1, 9):
        launches = tuple(make_launch(index, 0.25) for index in range(count))
        result = make_result(Succeeded(launches=launches, stop_reason="budget"), precision="fp16")
        content = make_record(results=(result,), device="cuda:0").to_json_dict()
        text = json.dumps(content)
        if len(text) >= RECORD_BYTES:
            break
    for number in range(first, last):
        content["run_id"] = f"run-{number}"
        content["fingerprint"]["software"]["gpu_kernel_driver"] = {"status": "known", "value": f"{550 + number % 20}.1"}
        folder = results / f"run-{number}"
        folder.mkdir()
        (folder / "record.json").write_bytes(encode_record(content))
    return len(text)


_UPDATE = "from sdbench.query.queries import run_query; run_query('SELECT 1', Path(sys.argv[1]))"
_QUERY = f"from sdbench.query.queries import run_query; run_query({SQL!r}, Path(sys.argv[1]))"


def _measure_some(results: Path) -> list[Bar]:
    first = _in_a_process(_UPDATE, results)
    query = _in_a_process(_QUERY, results)
    return [
        Bar(f"{SOME:,} records: first index", f"{first['wall_s']:.3g} s, {first['peak_mb']:.0f} MB"),
        at_most(f"{SOME:,} records: query", query["wall_s"], 0.3, "s"),
    ]


def _measure_many(results: Path) -> list[Bar]:
    first = _in_a_process(_UPDATE, results)
    query = _in_a_process(_QUERY, results)
    write_records(results, MANY, MANY + NEW)
    more = _in_a_process(_UPDATE, results)
    return [
        Bar(f"{MANY:,} records: index of {MANY - SOME:,} new", f"{first['wall_s']:.3g} s"),
        at_most(f"{MANY:,} records: query", query["wall_s"], 1.0, "s"),
        at_most(f"{MANY:,} records: index of {NEW:,} new", more["wall_s"], 5.0, "s"),
    ]


def _in_a_process(code: str, results: Path) -> dict[str, float]:
    """Run code in a fresh process; return its time after the imports of Python itself, CPU time (s) and peak (MB)."""
    program = (
        "import json, resource, sys, time\nfrom pathlib import Path\nbegan_s = time.monotonic()\n"
        f"{code}\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(json.dumps({'wall_s': time.monotonic() - began_s, 'cpu_s': used.ru_utime + used.ru_stime}))\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    environ = os.environ | {"PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", program, str(results)], check=True, capture_output=True, text=True, env=environ
    )
    printed, peak_kib = done.stdout.splitlines()
    cost: dict[str, float] = json.loads(printed)
    return cost | {"peak_mb": int(peak_kib) * 1024 / 1e6}


def measure_publishing() -> list[Bar]:
    """Return how long (s) 500 runs take to publish to a loopback S3, to pull, and to pull again."""
    from sdbench.publish.transfer import open_destination, publish_runs, pull_runs

    with tempfile.TemporaryDirectory() as name, _loopback_s3():
        results = Path(name) / "results"
        results.mkdir()
        write_records(results, 0, BUNDLES)
        runs = sorted(results.iterdir())
        destination = open_destination("s3://bench/runs")
        out = Path(name) / "out"
        publish_s = _time(lambda: publish_runs(runs, destination, os.environ))
        pull_s = _time(lambda: list(pull_runs(destination, out, lambda _: True)))
        again_s = _time(lambda: list(pull_runs(destination, out, lambda _: True)))
    return [
        at_most(f"publish {BUNDLES} runs to a loopback S3", publish_s, 15.0, "s"),
        at_most(f"pull {BUNDLES} runs", pull_s, 6.0, "s"),
        at_most(f"pull {BUNDLES} runs again", again_s, 1.0, "s"),
    ]


@contextlib.contextmanager
def _loopback_s3() -> Iterator[None]:
    """A server of its own process, so that its work is not ours."""
    code = (
        "from moto.server import ThreadedMotoServer\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\nprint(server.get_host_and_port()[1], flush=True)\nimport time\ntime.sleep(3600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    before = dict(os.environ)
    try:
        port = process.stdout.readline().split()[-1] if process.stdout else ""
        while process.stdout and not port.isdecimal():
            port = process.stdout.readline().split()[-1]
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        urllib.request.urlopen(urllib.request.Request(f"{os.environ['AWS_ENDPOINT_URL']}/bench", method="PUT")).close()
        yield
    finally:
        process.kill()
        process.wait()
        os.environ.clear()
        os.environ.update(before)


def _time(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s
