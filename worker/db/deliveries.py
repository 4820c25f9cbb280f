"""The outbox in the database: what is due for a destination, and how each try ended.

This is the second of two layers of retry: seconds inside one connection are the network's
(`dicom_node.peers`), minutes to hours are counted here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Update, select, update

from worker.db import circuits, events, screenings
from worker.db.circuits import Passage
from worker.db.engine import now
from worker.db.tables import Delivery, Screening, Study
from worker.lifecycle import CommitmentState, DeliveryState, Progress, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session


def take_due(session: Session, destination: str, lease_seconds: float) -> Sequence[Delivery]:
    """Take the due objects of one screening for one destination, in the order they were encoded.

    They are due again after the lease, so a sender that dies loses nothing. The attempt is
    counted before anything is sent. To a destination that is away one object goes as a probe.
    """
    moment = now(session)
    circuit = circuits.lock(session, destination)
    first = session.scalar(
        select(Delivery)
        .join(Screening, Delivery.screening_id == Screening.id)
        .join(Study, Screening.study_id == Study.id)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.PENDING,
            Delivery.next_attempt_at <= moment,
            Study.state == StudyState.DELIVERING,
        )
        .order_by(Delivery.next_attempt_at, Delivery.id)
        .limit(1)
        .with_for_update(of=Delivery, skip_locked=True)
    )
    if first is None:
        return ()
    passage = circuits.passage(session, circuit, lease_seconds)
    if passage is Passage.NOTHING:
        return ()
    due = session.scalars(
        select(Delivery)
        .where(
            Delivery.screening_id == first.screening_id,
            Delivery.destination == destination,
            Delivery.state == DeliveryState.PENDING,
        )
        .order_by(Delivery.id)
        .limit(1 if passage is Passage.PROBE else None)
        .with_for_update(skip_locked=True)
    ).all()
    for delivery in due:
        delivery.attempts += 1
        delivery.next_attempt_at = moment + timedelta(seconds=lease_seconds)
    return due


def mark_delivered(
    session: Session, delivery_id: int, note: str = "", *, to_commit: bool = False
) -> None:
    """Record that the destination has the object, and whether it is to be asked to keep it."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.state = DeliveryState.DELIVERED
    delivery.delivered_at = now(session)
    delivery.last_error = note
    # What was reported of an earlier copy says nothing of this one.
    delivery.commitment_transaction_uid = None
    if to_commit:
        delivery.commitment = CommitmentState.WAITING
        delivery.commitment_due_at = delivery.delivered_at
    _log(session, delivery, "object_delivered", note=note)


def mark_refused(session: Session, delivery_id: int, error: str) -> Delivery:
    """Record that the destination said no to the object: a person must look."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.state = DeliveryState.REFUSED
    delivery.last_error = error
    _log(session, delivery, "object_refused", error=error)
    return delivery


def postpone(
    session: Session, screening_id: int, destination: str, error: str, pause_seconds: float
) -> None:
    """Record a failed try; what the destination lacks of the screening is due after the pause."""
    screening = screenings.lock(session, screening_id)
    if screening is None:
        return
    until = now(session) + timedelta(seconds=pause_seconds)
    session.execute(
        _pending(destination)
        .where(Delivery.screening_id == screening_id)
        .values(next_attempt_at=until, last_error=error)
    )
    study = screening.study
    if _is_waited_for(screening):
        study.reason = Progress.DESTINATION_UNAVAILABLE
        study.detail = f"{destination}: {error}"
        study.updated_at = now(session)


def let_go(session: Session, destination: str) -> None:
    """Make all due that waits for a destination, which answers again."""
    session.execute(_pending(destination).values(next_attempt_at=now(session)))


def _pending(destination: str) -> Update:
    return update(Delivery).where(
        Delivery.destination == destination, Delivery.state == DeliveryState.PENDING
    )


def settle(session: Session, screening_id: int) -> None:
    """Complete the study when nothing is pending, or fail it when a destination refused."""
    screening = screenings.lock(session, screening_id)
    if screening is None or not _is_waited_for(screening):
        return
    session.refresh(screening, ["deliveries"])
    states = {delivery.state for delivery in screening.deliveries}
    if DeliveryState.PENDING in states:
        return
    if DeliveryState.REFUSED in states:
        refused = [d for d in screening.deliveries if d.state is DeliveryState.REFUSED]
        detail = "; ".join(f"{d.destination} {d.kind}: {d.last_error}" for d in refused)
        events.follow(session, screening, StudyEvent.FAILED, Progress.DELIVERY_REFUSED, detail)
        return
    delivered = DeliveryState.DELIVERED in states
    reason = Progress.DELIVERED if delivered else Progress.NO_DESTINATION
    events.follow(session, screening, StudyEvent.DELIVERED, reason)


def settle_each(session: Session, delivery_ids: Sequence[int]) -> None:
    """Settle the screenings that some deliveries belong to now.

    A screening that gave the same result while they were sent has taken them over.
    """
    session.flush()
    of = select(Delivery.screening_id).where(Delivery.id.in_(delivery_ids)).distinct()
    for screening_id in sorted(session.scalars(of)):
        settle(session, screening_id)


def settle_what_waits_for_nothing(session: Session) -> None:
    """Settle the studies that wait for deliveries of which none is pending; for a node's start."""
    pending = (
        select(Delivery.id)
        .join(Screening, Delivery.screening_id == Screening.id)
        .where(Screening.study_id == Study.id, Delivery.state == DeliveryState.PENDING)
        .correlate(Study)
        .exists()
    )
    waiting = select(Study).where(Study.state == StudyState.DELIVERING, ~pending)
    for study in session.scalars(waiting.order_by(Study.id)).all():
        screening = screenings.current(study)
        if screening is not None:
            settle(session, screening.id)


def _is_waited_for(screening: Screening) -> bool:
    """Tell whether the study waits for the deliveries of this screening, not of another one."""
    study = screening.study
    return study.state is StudyState.DELIVERING and screenings.current(study) is screening


def send_again(session: Session, screening: Screening, destinations: Sequence[str]) -> None:
    """Make every object of a screening due at once, for the destinations that are set now."""
    for delivery in screening.deliveries:
        if delivery.destination in destinations:
            _make_due(delivery, now(session))
        elif delivery.state is not DeliveryState.DELIVERED:
            delivery.state = DeliveryState.CANCELLED
    for destination in destinations:
        for entry in (screening.result or {}).get("objects", ()):
            put(session, screening, destination, entry)


def put(session: Session, screening: Screening, destination: str, entry: Mapping[str, str]) -> None:
    """Put one object into the outbox, once for each destination however often it is asked.

    Parameters
    ----------
    session
        The transaction that records the result.
    screening
        Whose result it is; a screening that gives an earlier one's very result takes over.
    destination
        Name of the destination.
    entry
        The object as `worker.screening.result` describes it: kind, UIDs, path, sha256.
    """
    delivery = session.scalar(
        select(Delivery).where(
            Delivery.sop_instance_uid == entry["sop_instance_uid"],
            Delivery.destination == destination,
        )
    )
    moment = now(session)
    if delivery is None:
        delivery = Delivery(
            destination=destination,
            kind=entry["kind"],
            sop_class_uid=entry["sop_class_uid"],
            sop_instance_uid=entry["sop_instance_uid"],
            series_instance_uid=entry["series_instance_uid"],
        )
    delivery.screening_id = screening.id
    delivery.path = entry["path"]
    delivery.sha256 = entry["sha256"]
    _make_due(delivery, moment)
    session.add(delivery)


def _make_due(delivery: Delivery, moment: datetime) -> None:
    """Let an object go out at once; what its destination promised before counts no more."""
    delivery.state = DeliveryState.PENDING
    delivery.next_attempt_at = moment
    delivery.commitment = CommitmentState.NOT_ASKED
    delivery.commitment_due_at = delivery.committed_at = None
    delivery.commitment_attempts = delivery.commitment_failures = 0
    delivery.commitment_error = ""


def end_unknown(session: Session, destinations: Sequence[str]) -> list[Delivery]:
    """Refuse what waits for a destination that is set no longer, so that a person sees it."""
    refused = []
    unknown = (
        Delivery.state == DeliveryState.PENDING,
        Delivery.destination.not_in(destinations),
    )
    waiting = select(Delivery.screening_id).where(*unknown).distinct()
    for screening_id in sorted(session.scalars(waiting)):
        screenings.lock(session, screening_id)
        of_screening = select(Delivery).where(*unknown, Delivery.screening_id == screening_id)
        refused += [
            mark_refused(session, delivery.id, is_unknown(delivery.destination))
            for delivery in session.scalars(of_screening).all()
        ]
        session.flush()
        settle(session, screening_id)
    return refused


def is_unknown(destination: str) -> str:
    """Say of a destination that it is set no longer, for a person."""
    return (
        f"{destination} is not among the destinations any more; set it again, or requeue the "
        "study for those that are"
    )


def take_over(session: Session) -> None:
    """Make due what a sender that is gone had taken; for the start of a node."""
    moment = now(session)
    circuits.probe_now(session)
    session.execute(
        update(Delivery)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.next_attempt_at > moment)
        .values(next_attempt_at=moment)
    )


def _log(session: Session, delivery: Delivery, event: str, **detail: str) -> None:
    events.record(
        session,
        event,
        delivery.screening.study,
        delivery.screening,
        destination=delivery.destination,
        kind=delivery.kind,
        sop_instance_uid=delivery.sop_instance_uid,
        attempts=delivery.attempts,
        **detail,
    )
