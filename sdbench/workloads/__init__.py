"""What is timed. A workload is one module with ``run(backend, protocol, instruments)`` and one line here."""

WORKLOADS: dict[str, str] = {
    "latency": "sdbench.workloads.latency",
}
