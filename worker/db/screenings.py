"""Screenings in the database: creating, claiming with a lease, renewing, finishing, sweeping.

Nothing here commits: one caller, one transaction (`Database.transaction`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Select, func, or_, select, update

from dicom_node.reasons import Reason
from worker.db import events
from worker.db.engine import now
from worker.db.tables import Screening, Study
from worker.errors import LeaseLostError, NotFoundError
from worker.lifecycle import DeliveryState, Progress, ScreeningState, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

_SUPERSEDABLE = (ScreeningState.QUEUED, ScreeningState.RUNNING, ScreeningState.SUCCEEDED)
_PUBLISHED_AT_ONCE = 100
_NEXT_IN_QUEUE = 10
# How many times the attempts of a screening are allowed while machine or services are in trouble.
_PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a screening until the lease ends.

    Attributes
    ----------
    screening_id
        The screening.
    token
        Fencing token: the number of the attempt this claim began.
    """

    screening_id: int
    token: int


def add(
    session: Session, study: Study, series_instance_uid: str, instances_digest: str
) -> Screening:
    """Queue the chosen series of a study as its next revision, superseding the one in force."""
    in_force = current(study)
    if in_force is not None and in_force.state in _SUPERSEDABLE:
        supersede(session, in_force)
    predecessor = _last_reported(study)
    study.revision += 1
    screening = Screening(
        study_id=study.id,
        revision=study.revision,
        series_instance_uid=series_instance_uid,
        instances_digest=instances_digest,
        state=ScreeningState.QUEUED,
        created_at=now(session),
        predecessor_id=predecessor.id if predecessor else None,
    )
    study.screenings.append(screening)
    session.flush()
    return screening


def supersede(session: Session, screening: Screening) -> None:
    """Take a screening out of force; what it has not delivered yet stays here."""
    screening.state = ScreeningState.SUPERSEDED
    screening.lease_expires_at = None
    for delivery in screening.deliveries:
        if delivery.state is DeliveryState.PENDING:
            delivery.state = DeliveryState.CANCELLED
    events.record(session, "superseded", screening.study, screening)


def current(study: Study) -> Screening | None:
    """Return the screening in force: the newest revision, unless that is superseded."""
    if study.screenings and study.screenings[-1].state is not ScreeningState.SUPERSEDED:
        return study.screenings[-1]
    return None


def refused_series(study: Study) -> dict[str, Screening]:
    """Give, by Series Instance UID, the screenings that showed a series not to be screenable."""
    return {
        screening.series_instance_uid: screening
        for screening in study.screenings
        if screening.state is ScreeningState.REFUSED
    }


def _last_reported(study: Study) -> Screening | None:
    """Return the newest screening whose report may have reached a destination.

    A report that was sent counts even without an answer: the answer may have been lost.
    """
    for screening in reversed(study.screenings):
        if any(d.kind == "sr" and d.attempts > 0 for d in screening.deliveries):
            return screening
    return None


def claim(session: Session, screening_id: int, worker: str, lease_seconds: float) -> Claim | None:
    """Claim a queued screening.

    The attempt is counted here, before any work, so that a study that kills its worker is
    counted too.

    Returns
    -------
    Claim or None
        None if it is not queued (any more): another message was faster, it was superseded, or
        newer instances of its study are still arriving.
    """
    screening = lock(session, screening_id)
    if (
        screening is None
        or screening.state is not ScreeningState.QUEUED
        or screening.study.state is not StudyState.QUEUED
    ):
        return None
    moment = now(session)
    screening.state = ScreeningState.RUNNING
    screening.attempts += 1
    screening.claimed_by = worker
    screening.started_at = moment
    screening.lease_expires_at = moment + timedelta(seconds=lease_seconds)
    events.move(
        session,
        screening.study,
        StudyEvent.CLAIMED,
        Progress.IN_WORK,
        f"attempt {screening.attempts} on {worker}",
        screening,
    )
    return Claim(screening.id, screening.attempts)


def lock(session: Session, screening_id: int) -> Screening | None:
    """Lock a screening together with its study, and return it as it is now.

    The study first, always: whoever may move a study holds its lock, and one order of locks
    keeps two transactions from waiting for each other.
    """
    study_id = session.scalar(select(Screening.study_id).where(Screening.id == screening_id))
    if study_id is None:
        return None
    lock_study(session, study_id)
    return session.scalar(
        select(Screening)
        .where(Screening.id == screening_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def lock_study(session: Session, study_id: int) -> Study:
    """Lock a study and return it as it is now."""
    return session.scalars(
        select(Study)
        .where(Study.id == study_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()


def renew(session: Session, held: Claim, lease_seconds: float) -> None:
    """Extend a lease.

    Raises
    ------
    LeaseLostError
        If the claim is no longer the current one.
    """
    renewed = session.execute(
        update(Screening)
        .where(
            Screening.id == held.screening_id,
            Screening.attempts == held.token,
            Screening.state == ScreeningState.RUNNING,
        )
        .values(lease_expires_at=now(session) + timedelta(seconds=lease_seconds))
    )
    if renewed.rowcount != 1:  # type: ignore[attr-defined]
        raise LeaseLostError(f"screening {held.screening_id}: attempt {held.token} lost its lease")


def held(session: Session, claim_: Claim) -> Screening:
    """Lock and return the screening of a claim, for recording its end.

    Raises
    ------
    LeaseLostError
        If the claim is no longer the current one.
    """
    screening = lock(session, claim_.screening_id)
    if (
        screening is None
        or screening.attempts != claim_.token
        or screening.state is not ScreeningState.RUNNING
    ):
        raise LeaseLostError(
            f"screening {claim_.screening_id}: attempt {claim_.token} lost its lease"
        )
    return screening


def refuse(session: Session, claim_: Claim, reason: str, detail: str) -> None:
    """End a screening whose series turned out not to be screenable.

    Where the study has another series that qualified, it is assembled again without this one.
    """
    screening = held(session, claim_)
    _end(session, screening, ScreeningState.REFUSED, reason, detail)
    study = screening.study
    for series in study.series:
        if series.series_instance_uid == screening.series_instance_uid:
            series.chosen, series.reason, series.detail = False, str(reason), detail
    alternative = any(series.reason == Reason.NOT_PREFERRED for series in study.series)
    if alternative and study.state is StudyState.SCREENING:
        study.assemble_at = now(session)
        events.move(session, study, StudyEvent.SERIES_REFUSED, reason, detail, screening)
    else:
        events.follow(session, screening, StudyEvent.REFUSED, reason, detail)


def release(
    session: Session,
    screening: Screening,
    detail: str,
    maximum_attempts: int,
    pause_seconds: float = 0,
    *,
    excused: bool = False,
) -> None:
    """Queue a screening again whose attempt failed or worker was lost; give up at the limit.

    Parameters
    ----------
    session
        A transaction that holds the screening's lock.
    screening
        A running screening.
    detail
        What happened, for a person; never patient data.
    maximum_attempts
        Attempts after which it fails for good. Excused ones do not count towards it, but of all
        together there may be four times as many at most.
    pause_seconds
        Time before another worker is woken up for it.
    excused
        The machine is to blame for this one, not the study.
    """
    screening.excused_attempts += excused
    counted = screening.attempts - screening.excused_attempts
    if counted >= maximum_attempts or screening.attempts >= _PATIENCE * maximum_attempts:
        _end(session, screening, ScreeningState.FAILED, Progress.ATTEMPTS_EXHAUSTED, detail)
        events.follow(session, screening, StudyEvent.FAILED, Progress.ATTEMPTS_EXHAUSTED, detail)
        return
    screening.state = ScreeningState.QUEUED
    screening.lease_expires_at = None
    screening.published_at = None
    screening.not_before = now(session) + timedelta(seconds=pause_seconds)
    events.follow(session, screening, StudyEvent.LEASE_EXPIRED, Progress.WORKER_LOST, detail)


def expired(session: Session, limit: int = 100) -> Sequence[int]:
    """List running screenings whose lease ran out."""
    return session.scalars(_expired(session).limit(limit)).all()


def lock_expired(session: Session, screening_id: int) -> Screening | None:
    """Lock one of `expired`; None if it was renewed or ended meanwhile."""
    screening = lock(session, screening_id)
    still = session.scalar(_expired(session).where(Screening.id == screening_id))
    return screening if still is not None else None


def _expired(session: Session) -> Select[int]:
    return select(Screening.id).where(
        Screening.state == ScreeningState.RUNNING, Screening.lease_expires_at < now(session)
    )


def unpublished(session: Session, republish_seconds: float, messages: int = 0) -> Sequence[int]:
    """List queued screenings to send a message for.

    Those that none was sent for, and of the few that are next in the queue those whose message
    may be lost. The others wait for good reason, and come next in turn: neither a long queue nor
    a long absence of workers may fill the broker with repetitions. None is lost while as many
    `messages` lie there as screenings wait: each lets a worker take the next in turn.
    """
    waiting = _waiting(session)
    never = waiting.where(Screening.published_at.is_(None)).limit(_PUBLISHED_AT_ONCE)
    count = session.scalar(select(func.count()).select_from(waiting.order_by(None).subquery()))
    if messages >= (count or 0):
        return session.scalars(never).all()
    next_ones = waiting.limit(_NEXT_IN_QUEUE).subquery()
    perhaps_lost = (
        select(Screening.id)
        .where(
            Screening.id.in_(select(next_ones.c.id)),
            Screening.published_at < now(session) - timedelta(seconds=republish_seconds),
        )
        .order_by(Screening.id)
    )
    return [*session.scalars(never), *session.scalars(perhaps_lost)]


def forget_messages(session: Session) -> int:
    """Take it that no message was sent for any queued screening; return how many these are."""
    forgotten = session.execute(
        update(Screening)
        .where(Screening.state == ScreeningState.QUEUED, Screening.published_at.is_not(None))
        .values(published_at=None)
    )
    return int(forgotten.rowcount)  # type: ignore[attr-defined]


def next_in_turn(session: Session) -> int | None:
    """Tell which queued screening waits longest, None where none waits.

    One whose worker was lost has kept its place: it does not queue up again behind the others.
    """
    return session.scalar(_waiting(session).limit(1))


def _waiting(session: Session) -> Select[int]:
    return (
        select(Screening.id)
        .join(Study)
        .where(
            Screening.state == ScreeningState.QUEUED,
            Study.state == StudyState.QUEUED,
            or_(Screening.not_before.is_(None), Screening.not_before <= now(session)),
        )
        .order_by(Screening.id)
    )


def mark_published(session: Session, screening_id: int) -> None:
    """Note that a message for the screening is with the broker."""
    session.execute(
        update(Screening).where(Screening.id == screening_id).values(published_at=now(session))
    )


def waiting_since(session: Session) -> datetime | None:
    """Tell since when the study waits that waits for a worker longest, None where none does."""
    return session.scalar(
        select(func.min(Study.updated_at)).where(Study.state == StudyState.QUEUED)
    )


def last_claim(session: Session) -> datetime | None:
    """Tell when a worker last took a screening, None where none ever did."""
    return session.scalar(select(func.max(Screening.started_at)))


def get(session: Session, screening_id: int) -> Screening:
    """Return one screening.

    Raises
    ------
    NotFoundError
        If there is none with this id.
    """
    screening = session.get(Screening, screening_id)
    if screening is None:
        raise NotFoundError(f"there is no screening {screening_id}")
    return screening


def _end(
    session: Session, screening: Screening, state: ScreeningState, reason: str, detail: str
) -> None:
    screening.state = state
    screening.reason, screening.detail = str(reason), detail
    screening.lease_expires_at = None
    screening.finished_at = now(session)


def finish(session: Session, claim_: Claim) -> Screening:
    """End a screening with success; the caller adds result, findings and deliveries to it."""
    screening = held(session, claim_)
    _end(session, screening, ScreeningState.SUCCEEDED, "", "")
    return screening


def deliveries_done(screening: Screening) -> bool:
    """Tell whether every object of the screening reached every destination."""
    done = (DeliveryState.DELIVERED, DeliveryState.CANCELLED)
    return all(delivery.state in done for delivery in screening.deliveries)
