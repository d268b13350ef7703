"""What is timed. A workload is one module with ``run(session)`` and one line here."""

WORKLOADS: dict[str, str] = {
    "latency": "sdbench.workloads.latency",
    "largest-batch": "sdbench.workloads.largest_batch",
    "precision": "sdbench.workloads.precision",
}
