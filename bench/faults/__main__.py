"""Run the scenarios: ``python -m bench.faults [--short] [--only NAME ...] [--again]``.

Prints one JSON line for each scenario and ends with 1 if one failed. Each batch of trials is added
to the results file when it is done, and a run that was cut off goes on behind its last one.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.faults import results, scorecard
from bench.faults.catalogue import CATALOGUE
from bench.faults.results import RESULTS, Batch
from bench.faults.scenario import tell

if TYPE_CHECKING:
    from bench.faults.scenario import Outcome, Scenario


def main() -> int:
    """Run what was asked for and tell whether all of it passed, as an exit code."""
    options = parse_arguments()
    # As for Ctrl-C: whatever a scenario started is stopped before this process ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = [s for s in CATALOGUE if not options.only or s.name in options.only]
    passed = [run_scenario(scenario, options) for scenario in chosen]
    if options.results == RESULTS:
        scorecard.write()
    return 0 if all(passed) else 1


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    names = [scenario.name for scenario in CATALOGUE]
    parser.add_argument("--short", action="store_true", help="few trials of each scenario")
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], choices=names, metavar="NAME"
    )
    parser.add_argument(
        "--again", action="store_true", help="do not go on with what this commit has recorded"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file that takes the results")
    return parser.parse_args()


def run_scenario(scenario: Scenario, options: argparse.Namespace) -> bool:
    """Run a scenario's missing batches, print its line, and tell whether it passed."""
    wanted = scenario.short_trials if options.short else scenario.trials
    commit = results.commit_of(scenario)
    batches = [] if options.again else results.resumable(options.results, scenario)
    try:
        while (done := sum(batch.outcome.trials for batch in batches)) < wanted:
            tell(f"{scenario.name}: trials {done} to {wanted}")
            outcome = run_batch(scenario, done, min(scenario.batch, wanted - done))
            date = datetime.now(UTC).isoformat(timespec="seconds")
            batches.append(Batch(commit, date, scenario.name, done, outcome))
            results.append(options.results, batches[-1])
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        # How the tests' services say that a program is not installed.
        tell(f"{scenario.name}: cannot run: {missing}")
        return False
    except Exception:  # noqa: BLE001 - one scenario that breaks must not hide what the others show
        tell(f"{scenario.name}: broke off:\n{traceback.format_exc()}")
        return False
    print_line(scenario, results.total(batches))
    return all(batch.outcome.passed for batch in batches)


def run_batch(scenario: Scenario, first_trial: int, trials: int) -> Outcome:
    """Run one batch in a folder of its own, which stays where something failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"lungwatch-{scenario.name}-"))
    started = time.monotonic()
    outcome = None
    try:
        outcome = scenario.run(first_trial, trials, folder)
    finally:
        if outcome is not None and outcome.passed:
            shutil.rmtree(folder)
        else:
            tell(f"{scenario.name}: failed; what it left is in {folder}")
    if outcome.trials <= 0:
        raise ValueError(f"{scenario.name} counted {outcome.trials} trials of {trials}")
    tell(f"{scenario.name}: {outcome.trials} trials in {time.monotonic() - started:.0f} s")
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
