"""A PACS that is away for hours, loses its replies, calls what it has duplicates, or forgets."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select
from support.study_rows import queued_screening

from bench.faults import moody_pacs
from bench.faults.distant_orthanc import DistantOrthanc
from bench.faults.moody_pacs import MoodyPacs
from bench.faults.moody_proxy import Mood
from bench.faults.outbox_view import OutboxView
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.screening_site import ScreeningSite, wait_until
from worker.db.engine import now
from worker.db.tables import Delivery
from worker.lifecycle import CommitmentState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# In a whole run and in a short one.
_STUDIES, _FEW_STUDIES = 100, 20
_HOURS_AWAY, _SHORTLY_AWAY = 3, 0.1
_LOST_REPLIES = 3
_BEFORE_FAULT = 5
_SECONDS = 120.0
_RECOVERY_SECONDS = 60.0
_QUICK = {"sweep_seconds": 0.5, "republish_seconds": 4, "delivery_lease_seconds": 30}
# Reports that nobody heard are asked for again, within seconds and not minutes.
_SOON = {"delivery_retry_seconds": 1, "commitment_report_seconds": 5}
_SPOILING = (Mood.CUTS, Mood.HALVES, Mood.DELAYS, Mood.DROPS)


def run(trials: Trials, folder: Path) -> Outcome:
    """Let a PACS be away; every trial starts an installation of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    studies, hours = (_FEW_STUDIES, _SHORTLY_AWAY) if trials.short else (_STUDIES, _HOURS_AWAY)
    outcomes = []
    for number in trials.numbers:
        own = folder / str(number)
        own.mkdir()
        uids = [f"1.2.826.0.2.{number}.{study}" for study in range(studies)]
        outcomes.append(_KINDS[number % len(_KINDS)](own, uids, hours))
    return sum(outcomes[1:], outcomes[0])


def _away_for_hours(folder: Path, uids: list[str], hours: float) -> Outcome:
    """Have a PACS that is away from the start, loses replies, and calls what it has duplicates."""
    roles = ("node", "cheap_worker")
    with MoodyPacs() as pacs, ScreeningSite(folder, roles, pacs.url, **_QUICK) as site:
        outbox = OutboxView(site)
        _plant(site, uids)
        _wait_until_screened(site, uids)
        waited = outbox.pass_hours(hours)
        # The node dies while it waits; the one after it takes up what it left.
        os.kill(site.living("node")[0], signal.SIGKILL)
        tries = site.delivery_tries()
        pacs.set_mood(moody_pacs.Mood.LOSES_REPLIES)
        _lose_replies(outbox, pacs)
        pacs.set_mood(moody_pacs.Mood.WELL)
        outbox.let_time_pass()
        recovery = _recovery(site, uids)
        return _judge(
            site,
            uids,
            Counter(pacs.held.values()),
            recovery,
            {
                f"absences of {waited:.1f} h, not {hours} h": waited < hours,
                # One for each probe and one for what was on its way as it went away.
                "tries while it was away, as if nobody had waited": _above(tries, 3 * len(uids)),
                "replies lost, too few to matter": max(pacs.stores.values(), default=0) < 2,
            },
        )


def _orthanc_stopped(folder: Path, uids: list[str], hours: float) -> Outcome:
    """Stop an Orthanc as it takes results; back again, each kind of bad reply is what it gives."""
    with DistantOrthanc(folder, "query", **_QUICK) as there:
        outbox = OutboxView(there.site)
        # The second half comes when it is away: told to stop, it still takes results for a second
        # or two, on a quick machine all of them.
        half = len(uids) // 2
        _plant(there.site, uids[:half])
        wait_until(lambda: outbox.delivered() >= _BEFORE_FAULT, _SECONDS)
        there.orthanc.stop()
        _plant(there.site, uids[half:])
        # Two objects of each study.
        missed = 2 * len(uids) - outbox.delivered()
        _wait_until_screened(there.site, uids)
        waited = outbox.pass_hours(hours)
        there.orthanc.start()
        for mood in _SPOILING:
            failures = outbox.failures()
            there.proxy.set_mood(mood)
            outbox.let_time_pass()
            outbox.wait_for_failure(failures)
        there.proxy.set_mood(Mood.WELL)
        outbox.let_time_pass()
        spoilt = set(there.proxy.spoilt)
        recovery = _recovery(there.site, uids)
        return _judge(
            there.site,
            uids,
            there.held(),
            recovery,
            {
                f"absences of {waited:.1f} h, not {hours} h": waited < hours,
                "stopped after everything was sent": missed <= 0,
                f"kinds of bad replies, not {len(_SPOILING)}": spoilt != {*_SPOILING}
                and len(spoilt),
            },
        )


def _commitment_in_doubt(folder: Path, uids: list[str], _hours: float) -> Outcome:
    """Ask an Orthanc for storage commitment that lost an object, and lose replies and the node."""
    with DistantOrthanc(folder, "storage_commitment", **_QUICK, **_SOON) as there:
        outbox = OutboxView(there.site)
        _plant(there.site, uids)
        wait_until(lambda: outbox.delivered() >= _BEFORE_FAULT, _SECONDS)
        forgotten = _forget_one(there, outbox)
        there.proxy.set_mood(Mood.CUTS)
        wait_until(lambda: there.proxy.spoilt.total() >= _LOST_REPLIES, _SECONDS)
        # A report that comes meanwhile finds nobody.
        os.kill(there.site.living("impatient_node")[0], signal.SIGKILL)
        there.proxy.set_mood(Mood.WELL)
        outbox.let_time_pass()
        recovery = _recovery(there.site, uids)
        return _judge(
            there.site,
            uids,
            there.held(),
            recovery,
            {
                "objects too few forgotten before their promise was asked for": not forgotten,
                "forgotten objects never sent again": bool(forgotten)
                and outbox.tries(forgotten)[0] < 2,
                "replies lost, too few to matter": there.proxy.spoilt.total() < _LOST_REPLIES,
            },
        )


_KINDS: tuple[Callable[[Path, list[str], float], Outcome], ...] = (
    _away_for_hours,
    _orthanc_stopped,
    _commitment_in_doubt,
)


def _recovery(site: ScreeningSite, uids: list[str]) -> float | None:
    """Wait for the rest to be done now that the PACS is well; None if it does not come to that.

    The seconds count from the next probe: the pause before it was made to be over.
    """
    well_at = time.monotonic()
    outbox = OutboxView(site)
    swallowed = True

    def done() -> bool:
        nonlocal swallowed
        # The question whose answer was swallowed last is given up after its timeout only. Its
        # pause, of many minutes, passes too; that of a question asked since then does not.
        if swallowed and _longest_pause(site) > _RECOVERY_SECONDS:
            swallowed = False
            outbox.let_time_pass()
        return site.at_rest() == len(uids) and outbox.uncommitted() == 0

    return time.monotonic() - well_at if wait_until(done, _SECONDS) else None


def _longest_pause(site: ScreeningSite) -> float:
    """Give the seconds until the last promise that waits for its pause is asked for again."""
    latest = select(func.max(Delivery.commitment_due_at)).where(
        Delivery.commitment == CommitmentState.WAITING
    )
    with site.database.reading() as session:
        due_at = session.scalar(latest)
        return (due_at - now(session)).total_seconds() if due_at else 0.0


def _judge(
    site: ScreeningSite,
    uids: list[str],
    objects: Counter[tuple[str, str]],
    recovery: float | None,
    problems: Mapping[str, int],
) -> Outcome:
    """Count what the PACS holds in the end: objects of each kind of each study."""
    unfinished = site.unfinished(uids)
    kinds = Counter(study for _, study in objects)
    missing = sum(kinds[uid] != 2 for uid in uids)
    doubled = sum(count - 1 for count in objects.values())
    problems = {
        "not completed": len(unfinished),
        "without exactly one SEG and one SR": missing,
        "second SEGs or SRs": doubled,
        "not committed": OutboxView(site).uncommitted(),
        **problems,
        f"recoveries not done in {_SECONDS:.0f} s": recovery is None,
        f"recoveries of more than {_RECOVERY_SECONDS:.0f} s": recovery is not None
        and recovery > _RECOVERY_SECONDS,
    }
    wrong = [f"{int(count)} {what}" for what, count in problems.items() if count]
    return Outcome(
        trials=1,
        acknowledged=len(uids),
        lost=max(len(unfinished), missing),
        duplicated=doubled,
        recovery_s=None if recovery is None else round(recovery, 1),
        passed=not wrong,
        notes="; ".join(wrong),
    )


def _plant(site: ScreeningSite, uids: list[str]) -> None:
    with site.database.transaction() as session:
        for uid in uids:
            queued_screening(session, uid)


def _wait_until_screened(site: ScreeningSite, uids: list[str]) -> None:
    """Wait until the results of all are on their way, or there."""
    wait_until(lambda: site.screened() == len(uids), _SECONDS)


def _lose_replies(outbox: OutboxView, pacs: MoodyPacs) -> None:
    """Let the PACS keep some objects without saying so."""
    for lost in range(1, _LOST_REPLIES + 1):
        outbox.let_time_pass()
        wait_until(lambda wanted=lost: pacs.stores.total() >= wanted, _SECONDS)
        wait_until(lambda: outbox.pause() > 0, _SECONDS)


def _forget_one(there: DistantOrthanc, outbox: OutboxView) -> str:
    """Let Orthanc lose an object before its promise was asked for, and tell which; empty: none."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        uid = outbox.never_asked_for()
        if uid is not None:
            copy = there.forget(uid)
            if outbox.tries(uid)[1] == 0:
                return uid
            # Asked for in between it was promised, and its loss would be Orthanc's own.
            there.orthanc.upload(copy)
        time.sleep(0.05)
    return ""


def _above(count: int, limit: int) -> int:
    return count if count > limit else 0


SCENARIO = Scenario(
    name="pacs_away",
    title=(
        f"PACS away for {_HOURS_AWAY} simulated hours with {_STUDIES} studies waiting, and back "
        "with lost replies and duplicates; Orthanc stopped, its replies cut, halved, delayed and "
        "dropped by a proxy; Orthanc that lost an object is asked for storage commitment"
    ),
    passes_if=(
        "exactly one SEG and one SR of each study in the PACS, all committed, within "
        f"{_RECOVERY_SECONDS:.0f} s of the next probe"
    ),
    trials=12,
    short_trials=3,
    batch=6,
    run=run,
)
