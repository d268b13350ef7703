"""``python -m sdbench.worker FD PARENT``: read a request on standard input, measure, write events to FD."""

import sys

from sdbench.processes import die_with
from sdbench.worker.launch import dump_stacks_when_asked, measure_and_report


def main(arguments: list[str]) -> int:
    """Measure one launch; return 0 when a result or a failure was reported."""
    events_fd, parent_pid = (int(text) for text in arguments)
    die_with(parent_pid)
    dump_stacks_when_asked()
    return measure_and_report(events_fd, import_s=None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
