"""What is timed. A workload is one module with ``run(context)`` and one line here."""

WORKLOADS: dict[str, str] = {
    "latency": "sdbench.workloads.latency",
}
