"""The page's sections in order: name -> module with ``build(source) -> Section``.

A new section is one file and one line.
"""

SECTIONS = {
    "summary": "sdbench.report.sections.summary",
    "compare": "sdbench.report.sections.compare",
    "trend": "sdbench.report.sections.trend",
    "latency": "sdbench.report.sections.latency",
    "published": "sdbench.report.sections.published",
    "throughput": "sdbench.report.sections.throughput",
    "capacity": "sdbench.report.sections.capacity",
    "memory": "sdbench.report.sections.memory",
    "claims": "sdbench.report.sections.claims",
    "precision": "sdbench.report.sections.precision",
    "phases": "sdbench.report.sections.phases",
    "projection": "sdbench.report.sections.projection",
    "samples": "sdbench.report.sections.samples",
    "checks": "sdbench.report.sections.checks",
    "doubts": "sdbench.report.sections.doubts",
    "images": "sdbench.report.sections.images",
    "results": "sdbench.report.sections.results",
    "unmeasured": "sdbench.report.sections.unmeasured",
    "machine": "sdbench.report.sections.machine",
    "telemetry": "sdbench.report.sections.telemetry",
    "reproduce": "sdbench.report.sections.reproduce",
}
