"""The outbox at work: due objects go to their destination, and every try is on record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from dicom_node.commitment import StoredReference
from dicom_node.config import CommitmentMethod
from dicom_node.errors import PeerError, PeerNotReadyError, PeerRefusedError, SpoolError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.status import StoreVerdict
from worker.audit import trail
from worker.audit.trail import NotSent
from worker.db import circuits, commitments, deliveries, lost_files, screenings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dicom_node.config import Destination
    from dicom_node.peers import Peer, StoreOutcome
    from worker.db.engine import Database
    from worker.db.tables import Delivery

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
    reference: StoredReference
    path: Path
    sha256: str

    def outgoing(self) -> OutgoingObject:
        """Read the object.

        Raises
        ------
        FileNotFoundError
            If its file is gone.
        OSError
            If it cannot be read now.
        SpoolError
            If it is not what was recorded.
        """
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise SpoolError(
                f"{self.path.name} is not what was recorded; screen the study again with "
                "`lungwatch studies requeue --rescreen`"
            )
        uids = self.reference.sop_class_uid, self.reference.sop_instance_uid
        return OutgoingObject(*uids, content)


class Deliverer:
    """Sends what is due.

    Each destination has rounds of its own, so that one that hangs holds up no other.

    Parameters
    ----------
    database
        The outbox.
    results_dir
        Folder of the encoded results.
    destinations
        Where results go.
    policy
        When to try again.
    """

    def __init__(
        self,
        database: Database,
        results_dir: Path,
        destinations: Sequence[Destination],
        policy: RetryPolicy,
    ) -> None:
        self._database = database
        self._results_dir = results_dir
        self._destinations = destinations
        self._policy = policy

    def take_over(self) -> None:
        """Take up what an earlier node left: its unfinished tries, and unknown destinations."""
        known = [d.name for d in self._destinations]
        with self._database.transaction() as session:
            deliveries.take_over(session)
        with self._database.transaction() as session:
            unknown = deliveries.end_unknown(session, known)
            trail.results_refused(session, unknown, NotSent.NO_DESTINATION)
        with self._database.transaction() as session:
            commitments.end_unknown(session, known)
        with self._database.transaction() as session:
            deliveries.settle_what_waits_for_nothing(session)

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
                    reference_to(d),
                    self._results_dir / d.path,
                    d.sha256,
                )
                for d in taken
            ]
        self._send(destination, screening_id, due)
        return len(due)

    def _send(self, destination: Destination, screening_id: int, due: Sequence[_Due]) -> None:
        try:
            objects = [entry.outgoing() for entry in due]
        except SpoolError as error:
            self._refuse(screening_id, due, str(error))
        except OSError as error:
            # No other try finds a file that is gone, but it may find a folder that was not mounted.
            if isinstance(error, FileNotFoundError) and self._results_dir.is_dir():
                self._give_up(screening_id)
                return
            # Our own disk: another try may find it well, and the destination is not to blame.
            detail = f"a result cannot be read: {error.strerror}"
            self._postpone(destination, screening_id, due, detail)
        else:
            self._store(destination, screening_id, due, objects)

    def _store(
        self,
        destination: Destination,
        screening_id: int,
        due: Sequence[_Due],
        objects: Sequence[OutgoingObject],
    ) -> None:
        try:
            peer = open_peer(destination)
            outcomes = _verified(destination, peer, due, peer.store(objects))
        except SpoolError as error:
            self._refuse(screening_id, due, str(error))
        except PeerError as error:
            self._open_circuit(destination, screening_id, due, str(error))
        except Exception as error:
            # A defect of ours must not keep the objects until the lease of this try ends.
            log.exception("delivery_failed", destination=destination.name)
            detail = f"{type(error).__name__} while it was sent"
            self._postpone(destination, screening_id, due, detail)
        else:
            self._record(destination, screening_id, due, outcomes)

    def _record(
        self,
        destination: Destination,
        screening_id: int,
        due: Sequence[_Due],
        outcomes: Sequence[StoreOutcome],
    ) -> None:
        to_commit = destination.commitment is not CommitmentMethod.NONE
        away = [o.detail for o in outcomes if o.verdict is StoreVerdict.UNAVAILABLE]
        with self._database.transaction() as session:
            circuit = circuits.lock(session, destination.name)
            screenings.lock(session, screening_id)
            refused = []
            for entry, outcome in zip(due, outcomes, strict=True):
                if outcome.stored:
                    deliveries.mark_delivered(
                        session, entry.delivery_id, outcome.detail, to_commit=to_commit
                    )
                elif outcome.verdict is StoreVerdict.REFUSED:
                    refused.append(
                        deliveries.mark_refused(session, entry.delivery_id, outcome.detail)
                    )
            trail.results_refused(session, refused, NotSent.REFUSED)
            sent = [e for e, o in zip(due, outcomes, strict=True) if o.stored]
            if sent:
                trail.result_sent(
                    session,
                    sent[0].reference.study_instance_uid,
                    destination.name,
                    [entry.reference.sop_class_uid for entry in sent],
                )
            # In the same transaction: a node that died in between would leave the study waiting
            # for objects of which none is due any more.
            deliveries.settle_each(session, [entry.delivery_id for entry in due])
            # After one failure another object's turn has come anyhow, and the one that failed,
            # which may itself be what makes the destination hang up, keeps its pause.
            if not away and circuits.close(session, circuit) > 1:
                deliveries.let_go(session, destination.name)
                commitments.let_go(session, destination.name)
        if away:
            self._open_circuit(destination, screening_id, due, away[0])

    def _open_circuit(
        self, destination: Destination, screening_id: int, due: Sequence[_Due], error: str
    ) -> None:
        """Wait for a destination that is away, with everything that waits for it."""
        self._postpone(destination, screening_id, due, error)
        with self._database.transaction() as session:
            circuits.open_(session, destination.name, self._policy.pause, error)
        log.warning("destination_unavailable", destination=destination.name, error=error)

    def _postpone(
        self, destination: Destination, screening_id: int, due: Sequence[_Due], error: str
    ) -> None:
        pause = self._policy.pause(max(entry.attempts for entry in due))
        with self._database.transaction() as session:
            deliveries.postpone(session, screening_id, destination.name, error, pause)

    def _give_up(self, screening_id: int) -> None:
        """Have a result made again whose files are gone; without its images the study fails."""
        with self._database.transaction() as session:
            again = lost_files.give_up_results(session, screening_id)
        log.warning("results_lost", screening=screening_id, made_again=again)

    def _refuse(self, screening_id: int, due: Sequence[_Due], error: str) -> None:
        with self._database.transaction() as session:
            screenings.lock(session, screening_id)
            refused = [deliveries.mark_refused(session, e.delivery_id, error) for e in due]
            trail.results_refused(session, refused, NotSent.DAMAGED)
            deliveries.settle_each(session, [entry.delivery_id for entry in due])


def reference_to(delivery: Delivery) -> StoredReference:
    """Name the object of a delivery."""
    return StoredReference(
        delivery.sop_class_uid,
        delivery.sop_instance_uid,
        delivery.series_instance_uid,
        delivery.screening.study.study_instance_uid,
    )


def _verified(
    destination: Destination,
    peer: Peer,
    due: Sequence[_Due],
    outcomes: Sequence[StoreOutcome],
) -> list[StoreOutcome]:
    """Look for the objects a peer says it had before; only what it finds counts as stored.

    Of one that is asked for storage commitment that is the answer, and one that answers no
    queries is believed.
    """
    doubtful = [
        entry.reference
        for entry, outcome in zip(due, outcomes, strict=True)
        if outcome.verdict is StoreVerdict.ALREADY_STORED
    ]
    if not doubtful or destination.commitment is CommitmentMethod.STORAGE_COMMITMENT:
        return list(outcomes)
    verdict, words = StoreVerdict.REFUSED, "it says that it has the object, and does not find it"
    try:
        found = peer.find(doubtful)
    except (PeerNotReadyError, PeerRefusedError):
        return list(outcomes)
    except PeerError as error:
        found = [False] * len(doubtful)
        verdict, words = StoreVerdict.UNAVAILABLE, str(error)
    missing = {
        each.sop_instance_uid for each, there in zip(doubtful, found, strict=True) if not there
    }
    return [
        replace(o, verdict=verdict, detail=words) if o.sop_instance_uid in missing else o
        for o in outcomes
    ]
