"""What destinations promised for delivered objects: whom to ask, and what was answered.

Only the results in force are asked for: what a late slice superseded need not be kept.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from worker.db import deliveries, events, screenings
from worker.db.engine import now
from worker.db.tables import CommitmentRequest, Delivery, Screening
from worker.lifecycle import (
    AT_REST,
    CommitmentState,
    DeliveryState,
    Progress,
    ScreeningState,
    StudyEvent,
    StudyState,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.orm import Session

_OPEN = (CommitmentState.WAITING, CommitmentState.REQUESTED)
_ASKED_FOR_AT_ONCE = 100
# A report may be late, but not for ever; the table must not grow.
_REQUESTS_KEPT_DAYS = 30
# Sent so often and still not kept: a person must look.
MOST_FAILURES = 5


def take_due(session: Session, destination: str, lease_seconds: float) -> Sequence[Delivery]:
    """Take the delivered objects whose promise is to be asked for now, the oldest first.

    They are due again after the lease: an asker that dies loses nothing. The attempt counts now.
    """
    moment = now(session)
    due = session.scalars(
        select(Delivery)
        .join(Screening, Delivery.screening_id == Screening.id)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.commitment.in_(_OPEN),
            Delivery.commitment_due_at <= moment,
            Screening.state == ScreeningState.SUCCEEDED,
        )
        .order_by(Delivery.commitment_due_at, Delivery.id)
        .limit(_ASKED_FOR_AT_ONCE)
        .with_for_update(of=Delivery, skip_locked=True)
    ).all()
    for delivery in due:
        delivery.commitment_attempts += 1
        delivery.commitment_due_at = moment + timedelta(seconds=lease_seconds)
    return due


def ask_no_more(session: Session, destination: str) -> int:
    """Take the answers to storing for the promise of a destination; return how many it had not."""
    count = session.execute(
        update(Delivery)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.commitment.in_(_OPEN),
        )
        .values(commitment=CommitmentState.NOT_ASKED, commitment_error="")
    ).rowcount  # type: ignore[attr-defined]
    return int(count)


def end_unknown(session: Session, destinations: Sequence[str]) -> None:
    """Wait no longer for the promises of destinations that are set no longer.

    There is nobody to ask. Their answers to storing are what is known, and the study's log says so:
    what is set now must not wait for them.
    """
    unknown = (
        Delivery.state == DeliveryState.DELIVERED,
        Delivery.commitment.in_(_OPEN),
        Delivery.destination.not_in(destinations),
    )
    waiting = select(Delivery.screening_id).where(*unknown).distinct()
    for screening_id in sorted(session.scalars(waiting)):
        screening = screenings.lock(session, screening_id)
        of_screening = select(Delivery).where(*unknown, Delivery.screening_id == screening_id)
        for delivery in session.scalars(of_screening).all():
            delivery.commitment = CommitmentState.NOT_ASKED
            delivery.commitment_due_at = None
            delivery.commitment_error = deliveries.is_unknown(delivery.destination)
            events.record(
                session,
                "commitment_given_up",
                delivery.screening.study,
                screening,
                destination=delivery.destination,
                kind=delivery.kind,
                sop_instance_uid=delivery.sop_instance_uid,
            )


def add_request(
    session: Session, transaction_uid: str, destination: str, due: Sequence[Delivery]
) -> None:
    """Record a request before it is sent: its report may be faster than our next step."""
    moment = now(session)
    session.execute(
        delete(CommitmentRequest).where(
            CommitmentRequest.requested_at < moment - timedelta(days=_REQUESTS_KEPT_DAYS)
        )
    )
    session.add(
        CommitmentRequest(
            transaction_uid=transaction_uid, destination=destination, requested_at=moment
        )
    )
    for delivery in due:
        delivery.commitment = CommitmentState.REQUESTED
        delivery.commitment_transaction_uid = transaction_uid


def destination_of(session: Session, transaction_uid: str) -> str | None:
    """Tell which destination a report answers for, None for a request that is none of ours."""
    request = session.get(CommitmentRequest, transaction_uid)
    return request.destination if request is not None else None


def ask_again(
    session: Session, delivery_ids: Sequence[int], error: str, pause_seconds: float
) -> None:
    """Note that asking brought no answer; it is done again after the pause."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(delivery_ids), Delivery.commitment.in_(_OPEN))
        .values(
            commitment=CommitmentState.WAITING,
            commitment_error=error,
            commitment_due_at=now(session) + timedelta(seconds=pause_seconds),
        )
    )


def let_go(session: Session, destination: str) -> None:
    """Ask at once what a destination that answers again could not be asked.

    What it took and has yet to report on keeps its time. What another transaction holds is being
    asked for: to wait for it could be to wait for each other.
    """
    not_asked = (
        select(Delivery.id)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.DELIVERED,
            Delivery.commitment == CommitmentState.WAITING,
            Delivery.commitment_error != "",
        )
        .with_for_update(skip_locked=True)
    )
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(not_asked))
        .values(commitment_due_at=now(session))
        .execution_options(synchronize_session=False)
    )


def wait_for_report(session: Session, delivery_ids: Sequence[int], seconds: float) -> None:
    """Note that a request was taken; without a report in time it is made again."""
    session.execute(
        update(Delivery)
        .where(Delivery.id.in_(delivery_ids), Delivery.commitment == CommitmentState.REQUESTED)
        .values(commitment_error="", commitment_due_at=now(session) + timedelta(seconds=seconds))
    )


def commit(session: Session, destination: str, sop_instance_uid: str) -> None:
    """Record that a destination keeps an object; what is not waited for changes nothing."""
    delivery = _open_delivery(session, destination, sop_instance_uid)
    if delivery is None:
        return
    delivery.commitment = CommitmentState.COMMITTED
    delivery.committed_at = now(session)
    delivery.commitment_due_at = None
    delivery.commitment_error = ""
    events.record(
        session,
        "object_committed",
        delivery.screening.study,
        delivery.screening,
        destination=destination,
        kind=delivery.kind,
        sop_instance_uid=sop_instance_uid,
    )


def send_again(
    session: Session,
    destination: str,
    sop_instance_uid: str,
    error: str,
    pause: Callable[[int], float],
    transaction_uid: str | None = None,
) -> Delivery | None:
    """Send an object again that its destination does not keep; refuse it after the last time.

    Parameters
    ----------
    session
        A transaction.
    destination, sop_instance_uid
        Who does not keep what.
    error
        What it said, for a person.
    pause
        Gives the seconds until it is sent, from how often it was not kept.
    transaction_uid
        The request that was answered, None for a query. A report counts for the object's last
        request alone: a PACS repeats one that it does not know to have arrived, when a new copy
        may be there.

    Returns
    -------
    Delivery or None
        What was refused, None where it is sent again or nothing is to be done.
    """
    delivery = _open_delivery(session, destination, sop_instance_uid)
    if delivery is None:
        return None
    if transaction_uid not in (None, delivery.commitment_transaction_uid):
        return None
    screening = delivery.screening
    delivery.commitment_failures += 1
    delivery.commitment_error = error
    delivery.commitment = CommitmentState.NOT_ASKED
    delivery.commitment_due_at = None
    _take_up_delivery(session, screening, f"{destination} {delivery.kind}: not kept: {error}")
    if delivery.commitment_failures >= MOST_FAILURES or screening.study.state in AT_REST:
        times = delivery.commitment_failures
        deliveries.mark_refused(session, delivery.id, f"sent {times} times and not kept: {error}")
        session.flush()
        deliveries.settle(session, screening.id)
        return delivery
    delivery.state = DeliveryState.PENDING
    delivery.next_attempt_at = now(session) + timedelta(seconds=pause(delivery.commitment_failures))
    delivery.last_error = f"not kept: {error}"
    events.record(
        session,
        "object_not_committed",
        screening.study,
        screening,
        destination=destination,
        kind=delivery.kind,
        sop_instance_uid=sop_instance_uid,
        error=error,
    )
    return None


def _take_up_delivery(session: Session, screening: Screening, detail: str) -> None:
    """Let a study be delivered again whose delivery had ended, well or at another destination.

    One that failed or was refused for want of its files has nothing to send.
    """
    study = screening.study
    refused = study.state is StudyState.FAILED and study.reason == Progress.DELIVERY_REFUSED
    if study.state is StudyState.COMPLETED or refused:
        events.move(
            session, study, StudyEvent.NOT_COMMITTED, Progress.NOT_COMMITTED, detail, screening
        )


def _open_delivery(session: Session, destination: str, sop_instance_uid: str) -> Delivery | None:
    """Lock and return the delivery of an object whose promise is waited for."""
    query = select(Delivery).where(
        Delivery.destination == destination, Delivery.sop_instance_uid == sop_instance_uid
    )
    delivery = session.scalar(query)
    if delivery is None:
        return None
    screenings.lock(session, delivery.screening_id)
    delivery = session.scalar(query.with_for_update().execution_options(populate_existing=True))
    waited_for = (
        delivery is not None
        and delivery.state is DeliveryState.DELIVERED
        and delivery.commitment in _OPEN
        and delivery.screening.state is ScreeningState.SUCCEEDED
    )
    return delivery if waited_for else None
