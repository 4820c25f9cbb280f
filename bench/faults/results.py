"""The results file: one JSON line for each batch of trials, stamped with a commit, never rewritten.

Whole runs and short ones of a scenario are kept apart. A line that begins a run makes history of
those of its kind before it.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from dataclasses import KW_ONLY, asdict, dataclass
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.faults.scenario import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.faults.scenario import Scenario

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = REPOSITORY / "docs" / "results" / "faults.jsonl"

# What a result is about: a commit that changes nothing of this leaves it true.
PRODUCT = ("dicom_node", "model", "worker", "migrations", "requirements.lock")
# What scenarios share, but not what runs and prints them; each adds its own file.
_SHARED = (
    "tests/support",
    ":(glob)bench/faults/*.py",
    *(
        f":(exclude)bench/faults/{name}.py"
        for name in ("__main__", "catalogue", "results", "scorecard")
    ),
)
_DIRTY = "-changed"


@dataclass(frozen=True)
class Batch:
    """One line of the results file.

    Attributes
    ----------
    commit, date
        On what it was measured, and when it was done.
    scenario, first_trial
        Which scenario, and from which trial on.
    outcome
        What the trials came to. One without trials broke off: its trials are run again, and the
        run it belongs to has failed.
    short
        Whether the run is a short one.
    begins_run
        Whether it is a run's first. The first trial does not tell: one that broke off comes twice.
    seconds
        How long it took; unknown of lines from before that was noted.
    """

    commit: str
    date: str
    scenario: str
    first_trial: int
    outcome: Outcome
    _: KW_ONLY
    short: bool
    begins_run: bool
    seconds: float | None

    def to_json(self) -> str:
        """Encode it as one line."""
        fields = {**asdict(self), **asdict(self.outcome)}
        del fields["outcome"]
        fields["pass"] = fields.pop("passed")
        return json.dumps(fields)

    @classmethod
    def from_json(cls, line: str) -> Batch:
        """Decode one line."""
        fields: dict[str, Any] = json.loads(line)
        fields["passed"] = fields.pop("pass")
        names = ("commit", "date", "scenario", "first_trial")
        commit, date, scenario, first_trial = (fields.pop(name) for name in names)
        # What lines from before these were noted lack.
        own = {
            "short": fields.pop("short", False),
            "begins_run": fields.pop("begins_run", first_trial == 0),
            "seconds": fields.pop("seconds", None),
        }
        return cls(commit, date, scenario, first_trial, Outcome(**fields), **own)


def commit_of(scenario: Scenario) -> str:
    """Name the last commit that changed what the scenario's result rests on.

    That is the product, the harness's shared parts, and what is the scenario's own. The commit is
    marked where files differ from it. A change in one scenario leaves the others' results.
    """
    run = scenario.run.func if isinstance(scenario.run, partial) else scenario.run
    paths = [*PRODUCT, *_SHARED, *scenario.rests_on, str(inspect.getsourcefile(run))]
    commit = _git("log", "-1", "--abbrev=12", "--format=%h", "--", *paths)
    if not commit:
        return "unknown" + _DIRTY
    return commit + (_DIRTY if _git("status", "--porcelain", "--", *paths) else "")


def read(path: Path, scenario: Scenario, *, short: bool) -> list[Batch]:
    """Read the batches of the scenario's last whole or last short run, none if there is no run.

    A line that a kill cut off is no result.
    """
    run: list[Batch] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            batch = Batch.from_json(line)
        except (ValueError, KeyError, TypeError):
            continue
        if (batch.scenario, batch.short) == (scenario.name, short):
            run = [batch] if batch.begins_run else [*run, batch]
    return run


def resumable(path: Path, scenario: Scenario, commit: str, *, short: bool) -> list[Batch]:
    """Read the batches that a run at this commit may count as its own: those of the same."""
    run = read(path, scenario, short=short)
    same = all(batch.commit == commit for batch in run)
    return run if same and not commit.endswith(_DIRTY) else []


def append(path: Path, batch: Batch) -> None:
    """Add one line, on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else ""
    # A line that a kill cut off must not swallow this one.
    torn = before and not before.endswith("\n")
    with path.open("a") as file:
        file.write(("\n" if torn else "") + batch.to_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def total(batches: Sequence[Batch]) -> Outcome:
    """Add up the outcomes."""
    return reduce(add, (batch.outcome for batch in batches), Outcome(0, 0, 0, 0, None, passed=True))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
