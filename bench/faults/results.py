"""The results file: one JSON line for each batch of trials, stamped with a commit, never rewritten.

A line whose first trial is number 0 begins a run of its scenario; the lines before it are history.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
from dataclasses import asdict, dataclass
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
_PRODUCT = ("dicom_node", "model", "worker", "migrations", "requirements.lock")
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
    """One line of the results file."""

    commit: str
    date: str
    scenario: str
    first_trial: int
    outcome: Outcome

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
        own = [fields.pop(name) for name in ("commit", "date", "scenario", "first_trial")]
        return cls(*own, Outcome(**fields))


def commit_of(scenario: Scenario) -> str:
    """Name the last commit that changed the product, the harness's shared parts or the scenario.

    It is marked where files differ from it. A change in one scenario leaves the others' results.
    """
    run = scenario.run.func if isinstance(scenario.run, partial) else scenario.run
    paths = [*_PRODUCT, *_SHARED, str(inspect.getsourcefile(run))]
    commit = _git("log", "-1", "--abbrev=12", "--format=%h", "--", *paths)
    if not commit:
        return "unknown" + _DIRTY
    return commit + (_DIRTY if _git("status", "--porcelain", "--", *paths) else "")


def read(path: Path, scenario: Scenario) -> list[Batch]:
    """Read the batches of the scenario's last run, none if there is no run.

    A line that a kill cut off is no result.
    """
    run: list[Batch] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            batch = Batch.from_json(line)
        except (ValueError, KeyError, TypeError):
            continue
        if batch.scenario == scenario.name:
            run = [batch] if batch.first_trial == 0 else [*run, batch]
    return run


def resumable(path: Path, scenario: Scenario) -> list[Batch]:
    """Read the batches that a run of today may count as its own: those of the same commit."""
    run, commit = read(path, scenario), commit_of(scenario)
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
    """Add up the outcomes of at least one batch."""
    return reduce(add, (batch.outcome for batch in batches))


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
