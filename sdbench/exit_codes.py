"""The exit codes of the commands, but for those of verdicts; ``sdbench --help`` lists what each means."""

OK = 0
# What a command checks is not as it should be.
CHECK_FAILED = 1
USER_ERROR = 2
ENVIRONMENT = 3
ALL_SKIPPED = 3
EXPERIMENT_FAILED = 4
INTERRUPTED = 130


def of_signal(number: int) -> int:
    """Return what a shell says of a process that a signal ended."""
    return 128 + number
