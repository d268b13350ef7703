"""The page's chapters in order: name -> title and sections, each a module here with ``build(source) -> Section``.

A new section is one file and one word.
"""

SECTIONS = "sdbench.report.sections"
CHAPTERS = {
    "short": ("In short", ("summary",)),
    "comparing": ("Did the change matter?", ("compare", "trend")),
    "choosing": (
        "Which machine?",
        ("latency", "devices", "throughput", "capacity", "memory", "energy", "published"),
    ),
    "study": ("Do the study's claims hold?", ("claims",)),
    "pictures": ("Do the pictures stay the same?", ("precision", "images")),
    "time": ("Where does the time go?", ("phases", "projection")),
    "trust": ("Can I trust this?", ("doubts", "checks", "samples", "telemetry", "unmeasured")),
    "repeat": ("Can I repeat it?", ("reproduce", "machine")),
    "all": ("All results", ("results",)),
}
