"""What the commands that measure exit with; the README's table says what each means."""

OK = 0
USER_ERROR = 2
ENVIRONMENT = 3
ALL_SKIPPED = 3
EXPERIMENT_FAILED = 4
INTERRUPTED = 130


def of_signal(number: int) -> int:
    """Return what a shell says of a process that a signal ended."""
    return 128 + number
