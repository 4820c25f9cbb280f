"""The outbox in the database: what is due for a destination, and how each try ended.

This is the second of two layers of retry: seconds inside one connection are the network's
(`dicom_node.peers`), minutes to hours are counted here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from worker.db import events
from worker.db.engine import now
from worker.db.tables import Delivery, Screening, Study
from worker.lifecycle import DeliveryState, Progress, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session


def take_due(session: Session, destination: str, lease_seconds: float) -> Sequence[Delivery]:
    """Take the due objects of one screening for one destination, in the order they were encoded.

    They are due again after the lease, so a sender that dies loses nothing. The attempt is
    counted before anything is sent.
    """
    moment = now(session)
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
    due = session.scalars(
        select(Delivery)
        .where(
            Delivery.screening_id == first.screening_id,
            Delivery.destination == destination,
            Delivery.state == DeliveryState.PENDING,
        )
        .order_by(Delivery.id)
        .with_for_update(skip_locked=True)
    ).all()
    for delivery in due:
        delivery.attempts += 1
        delivery.next_attempt_at = moment + timedelta(seconds=lease_seconds)
    return due


def mark_delivered(session: Session, delivery_id: int, note: str = "") -> None:
    """Record that the destination has the object."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.state = DeliveryState.DELIVERED
    delivery.delivered_at = now(session)
    delivery.last_error = note
    _log(session, delivery, "object_delivered", note=note)


def mark_refused(session: Session, delivery_id: int, error: str) -> None:
    """Record that the destination said no to the object: a person must look."""
    delivery = session.get_one(Delivery, delivery_id)
    delivery.state = DeliveryState.REFUSED
    delivery.last_error = error
    _log(session, delivery, "object_refused", error=error)


def postpone(session: Session, delivery_id: int, error: str, pause_seconds: float) -> None:
    """Record a failed try; the object is due again after the pause."""
    delivery = session.get_one(Delivery, delivery_id)
    if delivery.state is not DeliveryState.PENDING:
        return
    delivery.next_attempt_at = now(session) + timedelta(seconds=pause_seconds)
    delivery.last_error = error
    study = delivery.screening.study
    if study.state is StudyState.DELIVERING:
        study.reason = Progress.DESTINATION_UNAVAILABLE
        study.detail = f"{delivery.destination}: {error}"
        study.updated_at = now(session)


def hold_back(session: Session, destination: str, pause_seconds: float) -> None:
    """Open the circuit of an unreachable destination: nothing for it is due before the pause."""
    until = now(session) + timedelta(seconds=pause_seconds)
    session.execute(
        update(Delivery)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.PENDING,
            Delivery.next_attempt_at < until,
        )
        .values(next_attempt_at=until)
    )


def settle(session: Session, screening_id: int) -> None:
    """Complete the study when nothing is pending, or fail it when a destination refused."""
    screening = session.get_one(Screening, screening_id)
    session.refresh(screening, ["deliveries"])
    states = {delivery.state for delivery in screening.deliveries}
    if DeliveryState.PENDING in states or screening.study.state is not StudyState.DELIVERING:
        return
    if DeliveryState.REFUSED in states:
        refused = [d for d in screening.deliveries if d.state is DeliveryState.REFUSED]
        detail = "; ".join(f"{d.destination} {d.kind}: {d.last_error}" for d in refused)
        events.follow(session, screening, StudyEvent.FAILED, Progress.DELIVERY_REFUSED, detail)
        return
    reason = Progress.DELIVERED if screening.deliveries else Progress.NO_DESTINATION
    events.follow(session, screening, StudyEvent.DELIVERED, reason)


def send_again(session: Session, screening: Screening) -> None:
    """Make every object of a screening due at once."""
    for delivery in screening.deliveries:
        delivery.state = DeliveryState.PENDING
        delivery.next_attempt_at = now(session)


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
