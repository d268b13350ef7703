"""The errors a user can meet.

SdbenchError
├── UserError            the input is wrong: one line, exit 2
│   ├── ManifestError    names file, line and column
│   └── RecordError      a record or journal that cannot be trusted
└── EnvironmentProblem   the machine lacks something: one line with the remedy, exit 3
    └── WeightsUnavailable  pretrained weights cannot be had, or are not what was asked for

Every message has three parts: what failed, with which value, and what to do.
"""


class SdbenchError(Exception):
    """Base of every error with a message meant for the user."""


class UserError(SdbenchError):
    """The user's input is wrong (exit 2)."""


class ManifestError(UserError):
    """A manifest is wrong; the message starts with file:line:column."""


class RecordError(UserError):
    """A record, journal or bundle is damaged, unsealed or from a future version."""


class EnvironmentProblem(SdbenchError):
    """This machine lacks something (exit 3); the message names the remedy."""


class WeightsUnavailable(EnvironmentProblem):
    """Pretrained weights cannot be downloaded, or are not the ones the manifest pins."""
