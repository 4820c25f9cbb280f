"""Random histories of studies: everything that can happen to them, in any order, with crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from bench.faults.results import REPOSITORY
from bench.faults.scenario import Outcome, Scenario, Trials

if TYPE_CHECKING:
    from pathlib import Path

_TEST = "tests/integration/test_study_state_machine.py"


def run(trials: Trials, folder: Path) -> Outcome:
    """Try as many histories as there are trials; they differ in every run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", _TEST],
        cwd=REPOSITORY,
        env={**os.environ, "LUNGWATCH_FUZZ_EXAMPLES": str(trials.count)},
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "pytest.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    broken = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    return Outcome(
        trials=trials.count,
        acknowledged=0,
        lost=0,
        duplicated=0,
        recovery_s=None,
        passed=done.returncode == 0,
        notes="" if done.returncode == 0 else (broken or ["see pytest.log"])[0],
    )


SCENARIO = Scenario(
    name="study_histories",
    title="random histories of two studies, each of up to 40 events and crashes",
    passes_if=(
        "after each step nothing acknowledged is lost, one result at most is in force, one SEG and "
        "SR of each is in the PACS, every study is queued, leased, on its way or at rest; in the "
        "end all are at rest"
    ),
    trials=1000,
    short_trials=5,
    batch=50,
    run=run,
    rests_on=(_TEST,),
)
