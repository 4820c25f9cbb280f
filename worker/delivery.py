"""The outbox at work: due objects go to their destination, and every try is on record."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dicom_node.errors import DicomNodeError, PeerError, SpoolError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.status import StoreVerdict
from worker.db import deliveries

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dicom_node.config import Destination
    from dicom_node.peers import StoreOutcome
    from worker.db.engine import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long an undelivered object waits.

    Attributes
    ----------
    first_seconds
        Pause after the first failed try; it doubles with each further one.
    longest_seconds
        Ceiling of the pause. There is no last try: a PACS may be away for days.
    lease_seconds
        Time after which a try whose sender died is repeated.
    """

    first_seconds: float
    longest_seconds: float
    lease_seconds: float

    def pause(self, attempts: int) -> float:
        """Seconds to wait after this many tries."""
        return min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempts - 1, 30))


@dataclass(frozen=True, slots=True)
class _Due:
    """One delivery as the sender needs it, outside of any transaction."""

    delivery_id: int
    attempts: int
    outgoing: OutgoingObject


class Deliverer:
    """Sends what is due.

    Each destination has rounds of its own, so that one that hangs holds up no other.

    Parameters
    ----------
    database
        The outbox.
    destinations
        Where results go.
    policy
        When to try again.
    """

    def __init__(
        self, database: Database, destinations: Sequence[Destination], policy: RetryPolicy
    ) -> None:
        self._database = database
        self._destinations = destinations
        self._policy = policy

    def rounds(self) -> list[tuple[str, Callable[[], int]]]:
        """Give for each destination its name and the function that does one round."""
        return [(d.name, partial(self._round, d)) for d in self._destinations]

    def _round(self, destination: Destination) -> int:
        """Send the due objects of one screening; return their number."""
        with self._database.transaction() as session:
            taken = deliveries.take_due(session, destination.name, self._policy.lease_seconds)
            if not taken:
                return 0
            screening_id = taken[0].screening_id
            due = [
                _Due(
                    d.id,
                    d.attempts,
                    OutgoingObject(d.sop_class_uid, d.sop_instance_uid, Path(d.path)),
                )
                for d in taken
            ]
        try:
            outcomes = open_peer(destination).store([entry.outgoing for entry in due])
        except SpoolError as error:
            self._refuse_all(due, error)
        except PeerError as error:
            self._postpone_all(destination, due, str(error))
        else:
            self._record(destination, due, outcomes)
        with self._database.transaction() as session:
            deliveries.settle(session, screening_id)
        return len(due)

    def _record(
        self, destination: Destination, due: Sequence[_Due], outcomes: Sequence[StoreOutcome]
    ) -> None:
        with self._database.transaction() as session:
            for entry, outcome in zip(due, outcomes, strict=True):
                if outcome.stored:
                    deliveries.mark_delivered(session, entry.delivery_id, outcome.detail)
                elif outcome.verdict is StoreVerdict.REFUSED:
                    deliveries.mark_refused(session, entry.delivery_id, outcome.detail)
        away = [o.detail for o in outcomes if o.verdict is StoreVerdict.UNAVAILABLE]
        if away:
            self._postpone_all(destination, due, away[0])

    def _postpone_all(self, destination: Destination, due: Sequence[_Due], error: str) -> None:
        """Wait for a destination that is away, with everything that waits for it."""
        pause = self._policy.pause(max(entry.attempts for entry in due))
        with self._database.transaction() as session:
            for entry in due:
                deliveries.postpone(session, entry.delivery_id, error, pause)
            # The circuit opens for all studies: each try would end the same way.
            deliveries.hold_back(session, destination.name, self._policy.first_seconds)
        log.warning(
            "destination_unavailable", destination=destination.name, error=error, pause=pause
        )

    def _refuse_all(self, due: Sequence[_Due], error: DicomNodeError) -> None:
        with self._database.transaction() as session:
            for entry in due:
                deliveries.mark_refused(session, entry.delivery_id, str(error))
