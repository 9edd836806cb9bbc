"""What a check comes to: a finding, why it could not be made, or None where nothing is wrong. No TensorFlow."""

from typing import NamedTuple

# What is looked for. The first five follow from the history, and are said while a run trains.
CHECKS = (
    "discriminator won",
    "discriminator gave up",
    "learning rate too high",
    "over-fitting",
    "few pictures for FID",
    "outputs alike",
    "unrelated pairs",
    "misleading crops",
    "checkerboard",
    "statistics shift",
    "misaligned pairs",
    "starved input",
)


class Finding(NamedTuple):
    """Something that is wrong with a run."""

    name: str  # one of `CHECKS`
    evidence: str  # the numbers
    meaning: str
    remedy: str = ""  # the flags, by the settings of the run: `remedies.with_remedy` says them

    @property
    def in_one_line(self) -> str:
        """As it is said while a run trains."""
        return f"{self.name}: {self.evidence}. {self.meaning} {self.remedy}"


class Skipped(NamedTuple):
    """A check that could not be made."""

    name: str  # one of `CHECKS`
    reason: str


Outcome = Finding | Skipped | None
