"""One study among a hundred that kills every worker that takes it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select
from support.study_rows import queued_screening

from bench.faults.cheap_screening import POISON
from bench.faults.counting_pacs import CountingPacs
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.scenarios.many_jobs import done_again
from bench.faults.screening_site import ScreeningSite
from worker.db.tables import Screening, Study
from worker.lifecycle import Progress, StudyState

if TYPE_CHECKING:
    from pathlib import Path

_STUDIES = 100
_MAXIMUM_ATTEMPTS = 3
_SECONDS = 300.0
_QUICK = {
    "lease_seconds": 4,
    "sweep_seconds": 0.5,
    "republish_seconds": 4,
    "maximum_attempts": _MAXIMUM_ATTEMPTS,
}


def run(trials: Trials, folder: Path) -> Outcome:
    """Put a poison study at another place of the queue in each trial."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return reduce(add, (_trial(number, folder / str(number)) for number in trials.numbers))


def _trial(number: int, folder: Path) -> Outcome:
    folder.mkdir()
    place = number * 37 % _STUDIES
    healthy = [f"1.2.826.0.3.{number}.{study}" for study in range(_STUDIES - 1)]
    poison = f"{POISON}.{number}"
    order = [*healthy[:place], poison, *healthy[place:]]
    roles = ("node", "cheap_worker", "cheap_worker")
    with CountingPacs() as pacs, ScreeningSite(folder, roles, pacs.url, **_QUICK) as site:
        with site.database.transaction() as session:
            for uid in order:
                queued_screening(session, uid)
        begun = time.time()
        site.wait_until_at_rest(_STUDIES, _SECONDS)
        took = time.time() - begun
        unfinished = site.unfinished(healthy)
        objects = Counter(study for study, _, _ in pacs.stored)
        again = done_again(site, pacs)
        state, reason, attempts = _of(site, poison)
        failed = (state, reason) == (StudyState.FAILED, Progress.ATTEMPTS_EXHAUSTED)
        problems = {
            "healthy studies not completed": len(unfinished),
            "healthy studies without exactly one SEG and one SR": sum(
                objects[uid] != 2 for uid in healthy
            ),
            **again,
            f"attempts at the poison, which is {state}": 0
            if failed and attempts == _MAXIMUM_ATTEMPTS
            else attempts,
            "objects of the poison": objects[poison],
            "stuck leases": site.stuck_leases(),
            "kills beside those of the poison": abs(
                sum(event.signal == 9 for event in site.children()) - _MAXIMUM_ATTEMPTS
            ),
        }
    wrong = [f"{count} {what}" for what, count in problems.items() if count]
    return Outcome(
        trials=1,
        acknowledged=_STUDIES,
        lost=len(unfinished) + (not failed),
        duplicated=max(sum(objects[uid] > 2 for uid in healthy), *again.values()),
        recovery_s=round(took, 1),
        passed=not wrong,
        notes="; ".join(wrong),
    )


def _of(site: ScreeningSite, uid: str) -> tuple[StudyState, str, int]:
    with site.database.reading() as session:
        query = select(Study.state, Study.reason, Screening.attempts)
        row = session.execute(query.join(Screening).where(Study.study_instance_uid == uid)).one()
        return row[0], row[1], row[2]


SCENARIO = Scenario(
    name="poison_study",
    title=f"one study among {_STUDIES} that kills every worker that takes it",
    passes_if=(
        "it is failed with its reason after 3 attempts, the others done once, with exactly one SEG "
        "and one SR sent for each and neither sent again"
    ),
    trials=10,
    short_trials=1,
    batch=2,
    run=run,
    rests_on=("bench/faults/scenarios/many_jobs.py",),
)
