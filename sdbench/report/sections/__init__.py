"""The page's chapters in order: name -> title and sections, each a module here.

A module has a ``TITLE`` and ``build(source) -> Section | str``: a text is the reason why it has nothing to show.
A new section is one file and one word.
"""

SECTIONS = "sdbench.report.sections"
CHAPTERS = {
    "short": ("In short", ("summary",)),
    "comparing": ("Did the change matter?", ("compare", "why", "trend")),
    "choosing": ("Which machine?", ("devices", "throughput", "capacity", "memory", "energy", "reference")),
    "study": ("Do the study's claims hold?", ("claims",)),
    "pictures": ("Do the pictures stay the same?", ("precision",)),
    "time": ("Where does the time go?", ("latency", "work", "phases", "operators", "roofline", "projection")),
    "trust": ("Can I trust this?", ("quality", "checks", "samples", "telemetry", "unmeasured", "images")),
    "repeat": ("Can I repeat it?", ("reproduce", "machine")),
    "all": ("All results", ("results",)),
}
