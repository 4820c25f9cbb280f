"""A PACS that is away for hours, comes back losing its replies, and then calls all duplicates."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select
from support.study_rows import queued_screening

from bench.faults.moody_pacs import Mood, MoodyPacs
from bench.faults.scenario import Outcome, Scenario
from bench.faults.screening_site import ScreeningSite, wait_until
from worker.db.engine import now
from worker.db.tables import Circuit, Delivery, Study
from worker.lifecycle import CommitmentState, DeliveryState, StudyState

if TYPE_CHECKING:
    from pathlib import Path

_STUDIES = 20
_HOURS_AWAY = 3
_LOST_REPLIES = 3
_SECONDS = 120.0
_RECOVERY_SECONDS = 60.0
_QUICK = {"sweep_seconds": 0.5, "republish_seconds": 4, "delivery_lease_seconds": 30}


def run(first_trial: int, trials: int, folder: Path) -> Outcome:
    """Let a PACS be away; every trial starts an installation of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    outcome = _trial(first_trial, folder / "0")
    for number in range(1, trials):
        outcome += _trial(first_trial + number, folder / str(number))
    return outcome


def _trial(number: int, folder: Path) -> Outcome:
    folder.mkdir()
    uids = [f"1.2.826.0.2.{number}.{study}" for study in range(_STUDIES)]
    roles = ("node", "cheap_worker")
    with MoodyPacs() as pacs, ScreeningSite(folder, roles, pacs.url, **_QUICK) as site:
        with site.database.transaction() as session:
            for uid in uids:
                queued_screening(session, uid)
        wait_until(lambda: _count(site, StudyState.DELIVERING) == _STUDIES, _SECONDS)
        hours = _pass_hours(site)
        # The node dies while it waits; the one after it takes up what it left.
        os.kill(site.living("node")[0], signal.SIGKILL)
        tries = site.delivery_tries()
        pacs.set_mood(Mood.LOSES_REPLIES)
        _lose_replies(site, pacs)
        pacs.set_mood(Mood.WELL)
        _let_time_pass(site)
        well_at = time.time()
        finished = site.wait_until_at_rest(_STUDIES, _SECONDS)
        recovery = time.time() - well_at if finished else None
        wait_until(lambda: _uncommitted(site) == 0, _SECONDS)
        unfinished = site.unfinished(uids)
        objects = Counter(pacs.held.values())
        kinds = Counter(study for _, study in objects)
        missing = sum(kinds[uid] != 2 for uid in uids)
        doubled = sum(count - 1 for count in objects.values())
        problems = {
            "not completed": len(unfinished),
            "without exactly one SEG and one SR": missing,
            "second SEGs or SRs": doubled,
            "not committed": _uncommitted(site),
            f"hours of {_HOURS_AWAY} waited": int(hours < _HOURS_AWAY) and round(hours),
            # One for each probe and one for what was on its way as it went away.
            "tries in these hours, as if nobody had waited": tries if tries > 3 * _STUDIES else 0,
            "replies lost, too few to matter": int(max(pacs.stores.values(), default=0) < 2),
            "too slow to recover": int((recovery or 0) > _RECOVERY_SECONDS),
        }
    wrong = [f"{count} {what}" for what, count in problems.items() if count]
    return Outcome(
        trials=1,
        acknowledged=_STUDIES,
        lost=max(len(unfinished), missing),
        duplicated=doubled,
        recovery_s=None if recovery is None else round(recovery, 1),
        passed=not wrong,
        notes="; ".join(wrong),
    )


def _pass_hours(site: ScreeningSite) -> float:
    """Let the pauses of the circuit pass until they come to hours; tell how many."""
    seconds, failures = 0.0, 0
    while seconds < _HOURS_AWAY * 3600:
        if not wait_until(lambda before=failures: _failures(site) > before, _SECONDS):
            break
        failures = _failures(site)
        seconds += _let_time_pass(site)
    return seconds / 3600


def _lose_replies(site: ScreeningSite, pacs: MoodyPacs) -> None:
    """Let the PACS keep some objects without saying so."""
    for lost in range(1, _LOST_REPLIES + 1):
        _let_time_pass(site)
        wait_until(lambda wanted=lost: pacs.stores.total() >= wanted, _SECONDS)
        wait_until(lambda: _pause(site) > 0, _SECONDS)


def _let_time_pass(site: ScreeningSite) -> float:
    """Let the pause of the circuit and of every object be over; return the seconds it had left."""
    with site.database.transaction() as session:
        moment = now(session)
        circuit = session.scalars(select(Circuit)).first()
        left = max(0.0, (circuit.probe_at - moment).total_seconds()) if circuit else 0.0
        if circuit is not None:
            circuit.probe_at = moment
        for delivery in session.scalars(
            select(Delivery).where(Delivery.state == DeliveryState.PENDING)
        ):
            delivery.next_attempt_at -= timedelta(seconds=left)
    return left


def _failures(site: ScreeningSite) -> int:
    with site.database.reading() as session:
        return session.scalar(select(Circuit.failures)) or 0


def _pause(site: ScreeningSite) -> float:
    with site.database.reading() as session:
        probe_at = session.scalar(select(Circuit.probe_at))
        return (probe_at - now(session)).total_seconds() if probe_at else 0.0


def _count(site: ScreeningSite, state: StudyState) -> int:
    with site.database.reading() as session:
        return session.scalar(select(func.count()).where(Study.state == state)) or 0


def _uncommitted(site: ScreeningSite) -> int:
    with site.database.reading() as session:
        query = select(func.count()).where(Delivery.commitment != CommitmentState.COMMITTED)
        return session.scalar(query) or 0


SCENARIO = Scenario(
    name="pacs_away",
    title=(
        f"PACS away for {_HOURS_AWAY} simulated hours with {_STUDIES} studies waiting; it comes "
        "back losing replies, then calls what it has duplicates"
    ),
    passes_if="exactly one SEG and one SR of each study in the PACS, all committed, within 60 s",
    trials=20,
    short_trials=1,
    batch=5,
    run=run,
)
