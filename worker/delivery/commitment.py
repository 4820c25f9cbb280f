"""Commitment at work: destinations are asked to keep what they were sent, and their answers kept.

Only what every destination keeps may be cleaned here (`worker.retention`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from pydicom.uid import generate_uid

from dicom_node.config import CommitmentMethod, DimseDestination
from dicom_node.errors import PeerError
from dicom_node.peers import open_peer
from worker.audit import trail
from worker.audit.trail import NotSent
from worker.db import commitments
from worker.db.engine import now
from worker.delivery.outbox import reference_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dicom_node.commitment import CommitmentReport, StoredReference
    from dicom_node.config import Destination
    from dicom_node.receiving.commitment_reports import CommitmentReports
    from worker.db.engine import Database
    from worker.delivery.outbox import RetryPolicy

log = structlog.get_logger(__name__)

NOT_FOUND = "it does not find the object"
# One that never reports is asked again once a day in the end.
_LONGEST_WAIT_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """One delivered object whose promise is asked for."""

    delivery_id: int
    attempts: int
    may_appear: bool
    reference: StoredReference


class Committer:
    """Asks destinations for their promise and takes up what they report.

    Parameters
    ----------
    database
        The outbox.
    reports
        Where the listener leaves the reports that come to it.
    destinations
        Whom to ask.
    policy
        When to ask again.
    report_seconds
        How long a report of a destination that took the request is waited for; and how long after
        it was delivered an object may be missing from the answers to queries.
    """

    def __init__(
        self,
        database: Database,
        reports: CommitmentReports,
        destinations: Sequence[Destination],
        policy: RetryPolicy,
        report_seconds: float,
    ) -> None:
        self._database = database
        self._reports = reports
        self._destinations = destinations
        self._policy = policy
        self._report_seconds = report_seconds

    def rounds(self) -> list[tuple[str, Callable[[], int]]]:
        """Give for each destination its name and the function that does one round."""
        return [(d.name, partial(self._round, d)) for d in self._destinations]

    def take_reports(self) -> int:
        """Record the reports that came to the listener; return their number."""
        count = 0
        for path, report in self._reports.waiting():
            self._record(report)
            # Only now: a report that is read twice changes nothing the second time.
            self._reports.drop(path)
            count += 1
        return count

    def _round(self, destination: Destination) -> int:
        if destination.commitment is CommitmentMethod.NONE:
            with self._database.transaction() as session:
                commitments.ask_no_more(session, destination.name)
            return 0
        transaction_uid = str(generate_uid(prefix=None))
        with self._database.transaction() as session:
            due = commitments.take_due(session, destination.name, self._policy.lease_seconds)
            since = now(session) - timedelta(seconds=self._report_seconds)
            asked = [
                _Asked(
                    d.id,
                    d.commitment_attempts,
                    d.delivered_at is not None and d.delivered_at > since,
                    reference_to(d),
                )
                for d in due
            ]
            if asked and destination.commitment is CommitmentMethod.STORAGE_COMMITMENT:
                commitments.add_request(session, transaction_uid, destination.name, due)
        if asked:
            self._ask(destination, transaction_uid, asked)
        return len(asked)

    def _ask(self, destination: Destination, transaction_uid: str, asked: Sequence[_Asked]) -> None:
        try:
            if destination.commitment is CommitmentMethod.QUERY:
                self._query(destination, asked)
            else:
                self._request(destination, transaction_uid, asked)
        except PeerError as error:
            log.warning("commitment_not_asked", destination=destination.name, error=str(error))
            self._ask_again(asked, str(error))
        except Exception as error:
            # A defect of ours must not keep the objects until the lease of this try ends.
            log.exception("commitment_failed", destination=destination.name)
            self._ask_again(asked, f"{type(error).__name__} while asking")

    def _query(self, destination: Destination, asked: Sequence[_Asked]) -> None:
        found = open_peer(destination).find([each.reference for each in asked])
        for each, there in zip(asked, found, strict=True):
            if there:
                with self._database.transaction() as session:
                    commitments.commit(session, destination.name, each.reference.sop_instance_uid)
            elif each.may_appear:
                self._ask_again([each], NOT_FOUND)
            else:
                self._send_again(destination.name, each.reference.sop_instance_uid, NOT_FOUND)

    def _request(
        self, destination: Destination, transaction_uid: str, asked: Sequence[_Asked]
    ) -> None:
        # Loaded by whom it concerns: most installations never ask for it.
        from dicom_node.peers.commitment import request_commitment  # noqa: PLC0415

        assert isinstance(destination, DimseDestination)  # noqa: S101 - its settings saw to it
        reports = request_commitment(
            destination, transaction_uid, [each.reference for each in asked]
        )
        seconds = min(_LONGEST_WAIT_SECONDS, self._report_seconds * 2.0 ** (asked[0].attempts - 1))
        with self._database.transaction() as session:
            ids = [each.delivery_id for each in asked]
            commitments.wait_for_report(session, ids, seconds)
        for report in reports:
            self._record(report)

    def _record(self, report: CommitmentReport) -> None:
        with self._database.reading() as session:
            destination = commitments.destination_of(session, report.transaction_uid)
        if destination is None:
            log.warning("commitment_report_unknown", transaction_uid=report.transaction_uid)
            return
        for uid in report.committed:
            with self._database.transaction() as session:
                commitments.commit(session, destination, uid)
        for uid, words in report.failed:
            self._send_again(destination, uid, words, report.transaction_uid)

    def _send_again(
        self,
        destination: str,
        sop_instance_uid: str,
        error: str,
        transaction_uid: str | None = None,
    ) -> None:
        with self._database.transaction() as session:
            refused = commitments.send_again(
                session, destination, sop_instance_uid, error, self._policy.pause, transaction_uid
            )
            if refused is not None:
                trail.results_refused(session, [refused], NotSent.NOT_KEPT)

    def _ask_again(self, asked: Sequence[_Asked], error: str) -> None:
        pause = self._policy.pause(min(each.attempts for each in asked))
        with self._database.transaction() as session:
            commitments.ask_again(session, [each.delivery_id for each in asked], error, pause)
