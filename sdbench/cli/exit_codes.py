"""What the commands that measure exit with; the README's table says what each means."""

import signal

OK = 0
USER_ERROR = 2
ENVIRONMENT = 3
ALL_SKIPPED = 3
EXPERIMENT_FAILED = 4
INTERRUPTED = 128 + signal.SIGINT
