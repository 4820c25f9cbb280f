"""The published scorecard: ``docs/reliability.md``, written from the results file and nothing else.

python -m bench.faults.scorecard
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.faults import results
from bench.faults.catalogue import CATALOGUE
from bench.faults.results import REPOSITORY, RESULTS
from model.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from bench.faults.scenario import Scenario

PAGE = REPOSITORY / "docs" / "reliability.md"

_HEAD = """\
# Reliability: faults injected, and what came of them

Written by `make faults` from [its results](results/faults.jsonl); do not edit. Each scenario starts
the real parts that its fault concerns, from the listener alone to node, workers, broker, database
and PACS, injects one fault, and judges from outside. Instances are sent with DCMTK or pynetdicom,
attacks byte by byte. Where receiving is not concerned, studies are put into spool or database
instead (`many_jobs`, `poison_study`, `pacs_away`, `malformed_datasets`, `input_corpus`); where many
are wanted, workers do all but read, screen and encode; and `study_histories` is one process, with a
PACS in memory. *Acknowledged* is what the sender was told is safe, or the jobs put there.
*Recovery* is the longest time from the end of a fault until the system worked again.
How it works: [bench/faults](../bench/faults/README.md). Why:
[decision 0060](decisions/0060-fault-harness.md).

| fault | passes if | trials | acknowledged | lost | duplicated | recovery | result |
| --- | --- | --: | --: | --: | --: | --: | --- |
"""


def page(path: Path = RESULTS) -> str:
    """Write the page from a results file."""
    rows, remarks = [], []
    for scenario in CATALOGUE:
        rows.append(_row(path, scenario))
        remarks += _remark(path, scenario)
    return _HEAD + "\n".join(rows) + "\n\n## Measured on\n\n" + "\n".join(remarks or ["-"]) + "\n"


def write() -> None:
    """Write the published page."""
    write_text(PAGE, page())


def _row(path: Path, scenario: Scenario) -> str:
    batches = results.read(path, scenario)
    told = f"{scenario.title} (`{scenario.name}`) | {scenario.passes_if}"
    if not batches:
        return f"| {told} | 0 of {scenario.trials:,} | | | | | not run |"
    total = results.total(batches)
    short = total.trials < scenario.trials
    trials = f"{total.trials:,} of {scenario.trials:,}" if short else f"{total.trials:,}"
    recovery = "" if total.recovery_s is None else f"{total.recovery_s:.1f} s"
    verdict = "pass" if total.passed else "**FAIL**"
    counts = f"{total.acknowledged:,} | {total.lost:,} | {total.duplicated:,}"
    return f"| {told} | {trials} | {counts} | {recovery} | {verdict} |"


def _remark(path: Path, scenario: Scenario) -> list[str]:
    batches = results.read(path, scenario)
    if not batches:
        return []
    total, last = results.total(batches), batches[-1]
    notes = f": {total.notes}" if total.notes else ""
    return [f"- `{scenario.name}` at {last.commit} on {last.date[:10]}{notes}"]


if __name__ == "__main__":
    write()
