"""What verifying finds: one statement each, proven, not proven, or contradicted."""

from dataclasses import dataclass
from typing import Any, Literal

from sdbench.schema.base import Model
from sdbench.schema.record import Record

Verdict = Literal["proven", "not proven", "contradicted"]


class Finding(Model):
    """One thing that was looked into: what is proven, or why it is not, or what contradicts it."""

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Verification:
    """Everything found about one run; ``sha256`` is that of its bundle where it is one.

    ``record_sha256`` is that of its ``record.json``.
    """

    name: str
    record: Record
    sha256: str | None
    record_sha256: str
    findings: tuple[Finding, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing contradicts the run."""
        return all(finding.verdict != "contradicted" for finding in self.findings)

    def to_json_dict(self) -> dict[str, Any]:
        """Return the findings as JSON types, with the run's id and seal and not its whole record."""
        return {
            "name": self.name,
            "run_id": self.record.run_id,
            "seal": self.record.seal,
            "sha256": self.sha256,
            "is_sound": self.is_sound,
            "findings": [finding.to_json_dict() for finding in self.findings],
        }
