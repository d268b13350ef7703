"""``python -m sdbench.launch.element MEMBER.json PLACE``: one machine of a fleet, where a batch system starts it."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sdbench import exit_codes
from sdbench.launch.member import Member, Runs, measure_member
from sdbench.runner.interrupts import terminate_as_interrupt


def main(arguments: Sequence[str]) -> int:
    """Measure a member in the folder ``PLACE``, which belongs to this machine, and return its command's exit code."""
    member = Member.model_validate_json(Path(arguments[0]).read_bytes())
    try:
        with terminate_as_interrupt():
            for event in measure_member(member, Path(arguments[1])):
                if isinstance(event, Runs):
                    return event.exit_code if event.exit_code >= 0 else exit_codes.of_signal(-event.exit_code)
                sys.stdout.write(f"{event.text}\n")
                sys.stdout.flush()
    except KeyboardInterrupt:
        pass
    return exit_codes.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
