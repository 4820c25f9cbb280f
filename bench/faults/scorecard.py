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

    from bench.faults.results import Batch
    from bench.faults.scenario import Scenario

PAGE = REPOSITORY / "docs" / "reliability.md"

_HEAD = """\
# Reliability: faults injected, and what came of them

Written by `make faults` from [its results](results/faults.jsonl); do not edit. Each scenario starts
the real parts that its fault concerns, from the listener alone to node, workers, broker, database
and PACS, injects one fault, and judges from outside. Instances are sent with DCMTK or pynetdicom,
attacks byte by byte. Where receiving is not concerned, studies are put into spool or database
instead (`many_jobs`, `poison_study`, `pacs_away`, `malformed_datasets`, `input_corpus`, and in
`broker_away` the 120 of each long queue, most of what it counts); where many are wanted, workers do
all but read, screen and encode; and `study_histories` is one process, with a PACS in memory.
`parts_killed`, `poison_study`, `pacs_away` and the whole installations of `disk_full` have shorter
leases than are shipped. How it works: [bench/faults](../bench/faults/README.md). Why:
[decision 0060](decisions/0060-fault-harness.md).

- *Trials*: "n of m" is a run that is not complete. A short run has fewer trials, and may have fewer
  studies, shorter absences and shorter leases than its row says; it is shown where there is no
  other. Incomplete runs up to 2026-11-30 may be short ones without being marked.
- *Acknowledged* is what the sender was told is safe, or the studies put there; in
  `starved_listener` the C-ECHOs that were answered, in `soak` the visits, with those that warm up,
  and in `oversized_pdu` the attacks.
- *Recovery* is the longest time from the end of a fault until the system worked again; in
  `poison_study` the time that all studies of a trial took, and in `pacs_away` from the next probe:
  the pauses before it and before lost promises are asked for again, minutes to hours, are made to
  be over in the database.

| fault | passes if | trials | acknowledged | lost | duplicated | recovery | result |
| --- | --- | --: | --: | --: | --: | --: | --- |
"""

# The page may not say how old a row is: it has to be the same in every clone and at every commit.
_MEASURED_ON = f"""
## Measured on

A result stays until it is measured again, whatever changed meanwhile. With `-changed`, files
differed from the commit. What changed in the product since a commit:

    git log COMMIT.. -- {" ".join(results.PRODUCT)}

"""


def page(path: Path = RESULTS) -> str:
    """Write the page from a results file."""
    rows, remarks = [], []
    for scenario in CATALOGUE:
        rows.append(_row(path, scenario))
        remarks += _remark(path, scenario)
    return _HEAD + "\n".join(rows) + "\n" + _MEASURED_ON + "\n".join(remarks or ["-"]) + "\n"


def write() -> None:
    """Write the published page."""
    write_text(PAGE, page())


def _shown(path: Path, scenario: Scenario) -> list[Batch]:
    """Give the batches of the last whole run; of the last short one where there is none."""
    return results.read(path, scenario, short=False) or results.read(path, scenario, short=True)


def _row(path: Path, scenario: Scenario) -> str:
    batches = _shown(path, scenario)
    told = f"{scenario.title} (`{scenario.name}`) | {scenario.passes_if}"
    if not batches:
        return f"| {told} | 0 of {scenario.trials:,} | | | | | not run |"
    total = results.total(batches)
    trials = f"{total.trials:,}"
    if total.trials < scenario.trials:
        trials += f" of {scenario.trials:,}"
    if batches[0].short:
        trials += " (short run: reduced parameters)"
    recovery = "" if total.recovery_s is None else f"{total.recovery_s:.1f} s"
    verdict = "pass" if total.passed else "**FAIL**"
    counts = f"{total.acknowledged:,} | {total.lost:,} | {total.duplicated:,}"
    return f"| {told} | {trials} | {counts} | {recovery} | {verdict} |"


def _remark(path: Path, scenario: Scenario) -> list[str]:
    batches = _shown(path, scenario)
    if not batches:
        return []
    failed = _failed_short_run(path, scenario, batches)
    short = f"; **a short run failed** {_measured(failed)}" if failed else ""
    return [f"- `{scenario.name}` {_measured(batches)}{short}"]


def _measured(batches: list[Batch]) -> str:
    total, last = results.total(batches), batches[-1]
    notes = f": {total.notes}" if total.notes else ""
    return f"at {last.commit} on {last.date[:10]}{notes}"


def _failed_short_run(path: Path, scenario: Scenario, shown: list[Batch]) -> list[Batch]:
    """Give the last short run if it failed and the whole run that is shown does not make up for it.

    That it does if it began later, with other code. Dates tell: results of several checkouts are
    put together in any order.
    """
    run = results.read(path, scenario, short=True)
    if not run or shown[0].short or results.total(run).passed:
        return []
    made_up_for = run[-1].date < shown[0].date and run[-1].commit != shown[0].commit
    return [] if made_up_for else run


if __name__ == "__main__":
    write()
