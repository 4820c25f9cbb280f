"""Run the scenarios: ``python -m bench.faults [--short] [--only NAME ...] [--again]``.

Prints one JSON line for each scenario and ends with 1 if one failed, or if a short run took too
long. Each batch of trials is added to the results file when it is done, one that broke off as well,
and a run that was cut off goes on behind its last one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.faults import results, scorecard
from bench.faults.catalogue import CATALOGUE
from bench.faults.results import RESULTS, Batch
from bench.faults.scenario import Outcome, Trials, tell

if TYPE_CHECKING:
    from bench.faults.scenario import Scenario

# What the README promises of a short run of all scenarios.
_SHORT_RUN_SECONDS = 15 * 60


class CodeChangedError(Exception):
    """What a result would be about changed while it was measured."""


def main() -> int:
    """Run what was asked for and tell whether all of it passed, as an exit code."""
    options = parse_arguments()
    # As for Ctrl-C: whatever a scenario started is stopped before this process ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = [s for s in CATALOGUE if not options.only or s.name in options.only]
    # Of all at once: this process goes on with the modules that it has loaded, whatever follows.
    commits = [results.commit_of(scenario) for scenario in chosen]
    runs = [
        run_scenario(scenario, commit, options)
        for scenario, commit in zip(chosen, commits, strict=True)
    ]
    if options.results == RESULTS:
        scorecard.write()
    in_time = judge_duration(sum(run.seconds for run in runs), options)
    return 0 if all(run.passed for run in runs) and in_time else 1


def judge_duration(seconds: float, options: argparse.Namespace) -> bool:
    """Say how long all batches took, earlier ones that count too, and whether that is too long."""
    tell(f"took {seconds:.0f} s in all")
    if options.short and seconds > _SHORT_RUN_SECONDS:
        tell(f"failed: a short run may take {_SHORT_RUN_SECONDS} s")
        return False
    return True


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    names = [scenario.name for scenario in CATALOGUE]
    parser.add_argument("--short", action="store_true", help="few and easier trials of each")
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], choices=names, metavar="NAME"
    )
    parser.add_argument(
        "--again", action="store_true", help="do not go on with what this commit has recorded"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that takes the results")
    return parser.parse_args()


@dataclass(frozen=True)
class Run:
    """What came of a scenario, and how long its batches took."""

    passed: bool
    seconds: float


def run_scenario(scenario: Scenario, commit: str, options: argparse.Namespace) -> Run:
    """Run a scenario's missing batches, print its line, and tell whether it passed."""
    wanted = scenario.short_trials if options.short else scenario.trials
    batches = [] if options.again else earlier_batches(scenario, commit, options)
    try:
        while (done := results.total(batches).trials) < wanted:
            tell(f"{scenario.name}: trials {done} to {wanted}")
            trials = Trials(done, min(scenario.batch, wanted - done), short=options.short)
            batch = run_batch(scenario, commit, trials, begins_run=not batches)
            results.append(options.results, batch)
            batches.append(batch)
            if batch.outcome.trials == 0:
                break
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        # How the tests' services say that a program is not installed, which is no result.
        tell(f"{scenario.name}: cannot run: {missing}")
    except CodeChangedError as changed:
        tell(f"{scenario.name}: not recorded: {changed}")
    total = results.total(batches)
    # Whatever ended it early left trials undone.
    passed = total.passed and total.trials >= wanted
    print_line(scenario, replace(total, passed=passed))
    return Run(passed, sum(batch.seconds or 0.0 for batch in batches))


def earlier_batches(scenario: Scenario, commit: str, options: argparse.Namespace) -> list[Batch]:
    """Read what this run goes on with, and say where it has failed already."""
    batches = results.resumable(options.results, scenario, commit, short=options.short)
    if not results.total(batches).passed:
        tell(f"{scenario.name}: has failed at {commit}, until the code changes or --again is given")
    return batches


def run_batch(scenario: Scenario, commit: str, trials: Trials, *, begins_run: bool) -> Batch:
    """Run one batch and stamp it, unless what it was run with is no longer that commit."""
    # Not only afterwards: what takes hours shall not be run for nothing.
    require_unchanged(scenario, commit)
    started = time.monotonic()
    outcome = outcome_of(scenario, trials)
    seconds = round(time.monotonic() - started, 1)
    tell(f"{scenario.name}: {outcome.trials} trials in {seconds:.0f} s")
    require_unchanged(scenario, commit)
    return Batch(
        commit,
        datetime.now(UTC).isoformat(timespec="seconds"),
        scenario.name,
        trials.first,
        outcome,
        short=trials.short,
        begins_run=begins_run,
        seconds=seconds,
    )


def require_unchanged(scenario: Scenario, commit: str) -> None:
    """Refuse to go on where child processes run other code than this process has loaded."""
    if (now := results.commit_of(scenario)) != commit:
        raise CodeChangedError(f"the code was {commit} and is {now}")


def outcome_of(scenario: Scenario, trials: Trials) -> Outcome:
    """Run trials in a folder of their own, which stays where something failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"lungwatch-{scenario.name}-"))
    try:
        outcome = counted(scenario.run(trials, folder), trials)
        if outcome.passed:
            shutil.rmtree(folder)
    except Exception as error:  # noqa: BLE001 - one that breaks must not hide what the others show
        tell(f"{scenario.name}: broke off:\n{traceback.format_exc()}")
        # The message might hold paths of this machine.
        notes = f"broke off: {type(error).__name__}"
        return Outcome(0, 0, 0, 0, None, passed=False, notes=notes)
    else:
        return outcome
    finally:
        if folder.exists():
            tell(f"{scenario.name}: failed; what it left is in {folder}")


def counted(outcome: Outcome, trials: Trials) -> Outcome:
    """Refuse an outcome with which a run would never end."""
    if outcome.trials <= 0:
        raise ValueError(f"{outcome.trials} trials of {trials.count}")
    return outcome


def print_line(scenario: Scenario, outcome: Outcome) -> None:
    """Print a scenario's result for programs."""
    line = {
        "scenario": scenario.name,
        "trials": outcome.trials,
        "acknowledged": outcome.acknowledged,
        "lost": outcome.lost,
        "duplicated": outcome.duplicated,
        "recovery_s": outcome.recovery_s,
        "pass": outcome.passed,
    }
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
