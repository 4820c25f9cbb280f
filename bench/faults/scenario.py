"""What a scenario is, and what its trials come to."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Trials:
    """The trials that a scenario is asked for.

    Attributes
    ----------
    first, count
        Number of the first, and how many there are.
    short
        Whether they are those of a short run, which may be easier: fewer studies, shorter absences
        and leases. Their number says nothing about it: a whole run ends with few as well.
    """

    first: int
    count: int
    short: bool

    @property
    def numbers(self) -> range:
        """Number of each."""
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class Outcome:
    """What some trials came to, judged from outside of the system.

    Attributes
    ----------
    trials
        How often the fault was injected; none if the batch broke off.
    acknowledged
        What the system said yes to: instances answered with 0x0000, or jobs taken.
    lost, duplicated
        How many of those were gone afterwards, or had more than one effect.
    recovery_s
        Longest time from the end of a fault until the system worked again, in seconds; None
        where nothing has to recover.
    passed
        Whether these trials kept to the scenario's `passes_if`.
    notes
        One short sentence for the scorecard: a figure worth knowing, or what went wrong.
    """

    trials: int
    acknowledged: int
    lost: int
    duplicated: int
    recovery_s: float | None
    passed: bool
    notes: str = ""

    def __add__(self, other: Outcome) -> Outcome:
        """Put the outcomes of two batches together: counts add up, the worst is kept."""
        recoveries = [each.recovery_s for each in (self, other) if each.recovery_s is not None]
        # Also of what was put together before: most batches note the same.
        notes = dict.fromkeys(f"{self.notes}; {other.notes}".strip("; ").split("; "))
        return Outcome(
            trials=self.trials + other.trials,
            acknowledged=self.acknowledged + other.acknowledged,
            lost=self.lost + other.lost,
            duplicated=self.duplicated + other.duplicated,
            recovery_s=max(recoveries, default=None),
            passed=self.passed and other.passed,
            notes="; ".join(notes),
        )


@dataclass(frozen=True)
class Scenario:
    """One fault, injected many times.

    Attributes
    ----------
    name
        Its name for ``--only`` and in the results: an identifier.
    title
        What is done to the system, for a person.
    passes_if
        What has to hold afterwards, for a person.
    trials, short_trials
        How many trials a whole run and a short one have.
    batch
        How many trials make one line of the results: what a cut-off run loses at most.
    run
        Called with the trials and an empty folder. The number of a trial decides where in a stage
        its fault falls, so that trials spread over the stages however they are cut into batches.
    rests_on
        Files or folders of the repository on which its result rests beside the product, what
        scenarios share, and its own file.
    """

    name: str
    title: str
    passes_if: str
    trials: int
    short_trials: int
    batch: int
    run: Callable[[Trials, Path], Outcome]
    rests_on: tuple[str, ...] = ()


def tell(text: str) -> None:
    """Say how far it is, beside the results."""
    print(text, file=sys.stderr, flush=True)
