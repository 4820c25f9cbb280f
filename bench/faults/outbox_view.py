"""The outbox of a site as an onlooker sees it, and its pauses, which may be made to be over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from bench.faults.screening_site import wait_until
from worker.db.engine import now
from worker.db.tables import Circuit, Delivery
from worker.lifecycle import CommitmentState, DeliveryState

if TYPE_CHECKING:
    from bench.faults.screening_site import ScreeningSite

_SECONDS = 120.0


class OutboxView:
    """What is in the outbox of a site with one destination.

    Parameters
    ----------
    site
        The running installation.
    """

    def __init__(self, site: ScreeningSite) -> None:
        self._database = site.database

    def let_time_pass(self) -> float:
        """Let the pause of circuit, objects and promises be over; return the circuit's seconds."""
        with self._database.transaction() as session:
            moment = now(session)
            circuit = session.scalars(select(Circuit)).first()
            left = max(0.0, (circuit.probe_at - moment).total_seconds()) if circuit else 0.0
            if circuit is not None:
                circuit.probe_at = moment
            for delivery in session.scalars(
                select(Delivery).where(Delivery.state == DeliveryState.PENDING)
            ):
                delivery.next_attempt_at -= timedelta(seconds=left)
            for delivery in session.scalars(
                select(Delivery).where(Delivery.commitment == CommitmentState.WAITING)
            ):
                delivery.commitment_due_at = moment
        return left

    def pass_hours(self, hours: float) -> float:
        """Let the pauses of the circuit pass until they come to hours; tell how many."""
        seconds, failures = 0.0, 0
        while seconds < hours * 3600:
            if not self.wait_for_failure(failures):
                break
            failures = self.failures()
            seconds += self.let_time_pass()
        return seconds / 3600

    def wait_for_failure(self, before: int) -> bool:
        """Wait until the destination failed more often than that in a row, and tell."""
        return wait_until(lambda: self.failures() > before, _SECONDS)

    def failures(self) -> int:
        """Count how often in a row the destination did not answer."""
        with self._database.reading() as session:
            return session.scalar(select(Circuit.failures)) or 0

    def pause(self) -> float:
        """Give the seconds until the destination is tried again."""
        with self._database.reading() as session:
            probe_at = session.scalar(select(Circuit.probe_at))
            return (probe_at - now(session)).total_seconds() if probe_at else 0.0

    def delivered(self) -> int:
        """Count the objects that the destination said it stored."""
        with self._database.reading() as session:
            query = select(func.count()).where(Delivery.state == DeliveryState.DELIVERED)
            return session.scalar(query) or 0

    def uncommitted(self) -> int:
        """Count the objects that the destination did not promise to keep."""
        with self._database.reading() as session:
            query = select(func.count()).where(Delivery.commitment != CommitmentState.COMMITTED)
            return session.scalar(query) or 0

    def never_asked_for(self) -> str | None:
        """Give the newest delivered object whose promise was not asked for yet."""
        query = (
            select(Delivery.sop_instance_uid)
            .where(Delivery.state == DeliveryState.DELIVERED, Delivery.commitment_attempts == 0)
            .order_by(Delivery.id.desc())
        )
        with self._database.reading() as session:
            return session.scalars(query).first()

    def tries(self, sop_instance_uid: str) -> tuple[int, int]:
        """Tell how often an object was sent, and how often its promise was asked for."""
        query = select(Delivery.attempts, Delivery.commitment_attempts).where(
            Delivery.sop_instance_uid == sop_instance_uid
        )
        with self._database.reading() as session:
            sent, asked = session.execute(query).one()
            return sent, asked
