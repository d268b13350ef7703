"""The errors a user can meet.

SdbenchError
├── UserError            the input is wrong: one line, exit 2
│   ├── ManifestError    names file, line and column
│   └── RecordError      a record or journal that cannot be trusted
└── EnvironmentProblem   something is missing on this machine: one line with a hint, exit 3
    ├── WeightsUnavailable  pretrained weights are not available, or are not those of the manifest
    └── EnvironmentLost     the device was there when the run began, and is gone: the run stops, to be resumed

Every message has three parts: what failed, with which value, and what to do.
"""


class SdbenchError(Exception):
    """Base of every error with a message meant for the user."""


class UserError(SdbenchError):
    """The user's input is wrong (exit 2)."""


class ManifestError(UserError):
    """A manifest is wrong; each of its problems starts with file:line:column."""

    def __init__(self, *problems: str) -> None:
        """Keep all problems; the message is the first, with the number of the others."""
        others = len(problems) - 1
        more = f" (and {others} more problem{'s' * (others > 1)}; list them with: sdbench validate)" if others else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class RecordError(UserError):
    """A record, journal or bundle is damaged, unsealed or from a future version."""


class EnvironmentProblem(SdbenchError):
    """Something is missing on this machine (exit 3); the message names the hint."""


class WeightsUnavailable(EnvironmentProblem):
    """Pretrained weights cannot be downloaded, or are not the ones the manifest pins."""


class EnvironmentLost(EnvironmentProblem):
    """A run cannot continue on this machine as it is now; what is finished is kept, and the same command resumes."""
