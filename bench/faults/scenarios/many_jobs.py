"""Many small jobs while their workers are killed, beside plain Celery with the same kills."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select
from support.study_rows import queued_screening

from bench.faults import plain_celery
from bench.faults.counting_pacs import CountingPacs
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.screening_site import ScreeningSite, wait_until
from worker.db.tables import Event
from worker.lifecycle import StudyEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A trial is one kill.
_JOBS_PER_KILL, _JOBS_PER_QUICK_KILL = 75, 20
_PLANTED_AT_ONCE = 150
_DRAIN_SECONDS = 900.0
_RECOVERY_SECONDS = 60.0
_QUICK = {"lease_seconds": 4, "sweep_seconds": 0.5, "republish_seconds": 4}
_GOLDEN = 0.618034


def run(trials: Trials, folder: Path) -> Outcome:
    """Screen 75 studies for each kill and count what comes to the PACS; then without Lungwatch."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if trials.short:
        kills = Kills(trials.first, trials.count, _JOBS_PER_QUICK_KILL)
        return _lungwatch(kills, folder / "lungwatch", **_QUICK)
    kills = Kills(trials.first, trials.count, _JOBS_PER_KILL)
    outcome = _lungwatch(kills, folder / "lungwatch")
    lost, doubled = _plain_celery(kills, folder / "celery")
    plain = f"plain Celery lost {lost} and doubled {doubled} of {kills.jobs}"
    return outcome + Outcome(0, 0, 0, 0, None, passed=True, notes=plain)


@dataclass(frozen=True)
class Kills:
    """When workers are killed: once in so many jobs."""

    first: int
    count: int
    distance: int

    @property
    def jobs(self) -> int:
        """Jobs in all."""
        return self.count * self.distance

    def carry_out(self, site: ScreeningSite, role: str, done: Callable[[], int]) -> float:
        """Kill workers of a role as the jobs get done; tell when the last one was killed."""
        for number in range(self.count):
            wanted = number * self.distance + self.distance // 2
            wait_until(lambda wanted=wanted: done() >= wanted, _DRAIN_SECONDS)
            wait_until(lambda: len(site.living(role)) > 0, _DRAIN_SECONDS)
            # Anywhere in a job, not always as its end was noticed.
            time.sleep((self.first + number) * _GOLDEN % 1 * 0.1)
            workers = site.living(role)
            os.kill(workers[number % len(workers)], signal.SIGKILL)
        return time.time()


def _lungwatch(kills: Kills, folder: Path, **settings: float) -> Outcome:
    folder.mkdir()
    roles = ("node", "cheap_worker", "cheap_worker")
    with CountingPacs() as pacs, ScreeningSite(folder, roles, pacs.url, **settings) as site:
        uids = _plant(site, kills)
        killed_at = kills.carry_out(site, "cheap_worker", site.at_rest)
        site.wait_until_at_rest(kills.jobs, _DRAIN_SECONDS)
        unfinished = site.unfinished(uids)
        objects = Counter(study for study, _, _ in pacs.stored)
        missing = sum(objects[uid] < 2 for uid in uids)
        doubled = sum(objects[uid] > 2 for uid in uids)
        again = done_again(site, pacs)
        recovery = max(map(site.completed_at, uids)) - killed_at if not unfinished else None
        problems = {
            "not completed": len(unfinished),
            "without a SEG or an SR": missing,
            "with a second SEG or SR": doubled,
            **again,
            "stuck leases": site.stuck_leases(),
            "orphans in the results folder": len(site.result_orphans()),
            "kills that hit nobody": kills.count - sum(e.signal == 9 for e in site.children()),
            "too slow to recover": int((recovery or 0) > _RECOVERY_SECONDS),
        }
    wrong = [f"{count} {what}" for what, count in problems.items() if count]
    return Outcome(
        trials=kills.count,
        acknowledged=kills.jobs,
        lost=max(len(unfinished), missing),
        duplicated=max(doubled, *again.values()),
        recovery_s=None if recovery is None else round(recovery, 1),
        passed=not wrong,
        notes="; ".join(wrong),
    )


def done_again(site: ScreeningSite, pacs: CountingPacs) -> dict[str, int]:
    """Count what was done more than once, where workers alone are killed.

    UIDs of results are derived: what a second screening makes, or a second sending sends, is no
    other object but the same one again. With the node alive and every reply of the PACS heard
    there is no reason to send one again.
    """
    screened_again = (
        select(Event.study_id)
        .where(Event.event == StudyEvent.SCREENED.value)
        .group_by(Event.study_id)
        .having(func.count() > 1)
    )
    with site.database.reading() as session:
        studies = len(session.scalars(screened_again).all())
    return {
        "objects sent more than once": sum(times > 1 for times in pacs.stored.values()),
        "studies screened more than once": studies,
    }


def _plant(site: ScreeningSite, kills: Kills) -> list[str]:
    """Put assembled studies into the database, which the sweeper finds and publishes."""
    uids = [f"1.2.826.0.1.{kills.first}.{number}" for number in range(kills.jobs)]
    for start in range(0, kills.jobs, _PLANTED_AT_ONCE):
        with site.database.transaction() as session:
            for uid in uids[start : start + _PLANTED_AT_ONCE]:
                queued_screening(session, uid)
    return uids


def _plain_celery(kills: Kills, folder: Path) -> tuple[int, int]:
    """Do the same with plain Celery; return how many jobs it lost and how many it did twice."""
    folder.mkdir()

    def effects() -> list[str]:
        path = folder / plain_celery.EFFECTS
        return path.read_text().splitlines() if path.exists() else []

    def quiet() -> bool:
        before = len(effects())
        time.sleep(3 * plain_celery.VISIBILITY_SECONDS)
        return len(effects()) == before

    with ScreeningSite(folder, ("plain_worker", "plain_worker"), "") as site:
        app = plain_celery.make_app(site.settings.required_broker_url)
        for number in range(kills.jobs):
            app.send_task(plain_celery.TASK, args=[number])
        app.close()
        kills.carry_out(site, "plain_worker", lambda: len(set(effects())))
        wait_until(quiet, _DRAIN_SECONDS)
    counts = Counter(effects())
    return kills.jobs - len(counts), sum(count > 1 for count in counts.values())


SCENARIO = Scenario(
    name="many_jobs",
    title=f"kill -9 of a worker, once in {_JOBS_PER_KILL} small jobs",
    passes_if=(
        "every job done once, with exactly one SEG and one SR sent for each and neither sent "
        "again, no stuck lease, no orphan"
    ),
    trials=40,
    short_trials=2,
    batch=10,
    run=run,
)
