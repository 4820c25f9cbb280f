"""The promise of a destination: asked for, waited for, and sent again where it is not given."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)
from support.study_rows import screened_study

from dicom_node.commitment import CommitmentReport
from dicom_node.config import CommitmentMethod, DimseDestination
from dicom_node.receiving.commitment_reports import CommitmentReports
from worker.audit_entry import AuditAction, AuditOutcome
from worker.db import audit, commitments, deliveries, events, studies
from worker.db.engine import now
from worker.db.tables import CommitmentRequest, Delivery
from worker.delivery.commitment import Committer
from worker.delivery.outbox import RetryPolicy
from worker.embedded.process import free_ports
from worker.lifecycle import CommitmentState, DeliveryState, Progress, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.db.engine import Database

# What differs between the databases is tried in test_circuits.py and test_retention.py.
pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)

SEG, SR = "1.2.3.0", "1.2.3.1"


class Pacs:
    """A PACS that finds what it is told to, takes every request, and reports nothing."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self.requests: list[str] = []
        ae = AE(ae_title="PACS")
        ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        ae.add_supported_context(StorageCommitmentPushModel)
        self._server = ae.start_server(
            ("127.0.0.1", 0),
            block=False,
            evt_handlers=[(evt.EVT_C_FIND, self._find), (evt.EVT_N_ACTION, self._act)],
        )
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        self._server.shutdown()

    def _find(self, event: evt.Event) -> Iterator[tuple[int, object]]:
        if event.identifier.SOPInstanceUID in self.found:
            yield 0xFF00, event.identifier

    def _act(self, event: evt.Event) -> tuple[int, None]:
        self.requests.append(str(event.action_information.TransactionUID))
        return 0x0000, None


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    pacs = Pacs()
    yield pacs
    pacs.stop()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second for a report on the same association: this PACS sends none."""
    monkeypatch.setattr("dicom_node.peers.commitment.WAIT_SECONDS", 0.0)


def committer(
    database: Database,
    folder: Path,
    port: int,
    method: CommitmentMethod,
    *,
    pause: float = 0.0,
    report_seconds: float = 600.0,
) -> Committer:
    there = DimseDestination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=port,
        calling_ae_title="LUNGWATCH",
        commitment=method,
    )
    policy = RetryPolicy(first_seconds=pause, longest_seconds=3600, lease_seconds=60)
    return Committer(database, CommitmentReports(folder), [there], policy, report_seconds)


def deliver(database: Database) -> None:
    """A completed study whose SEG and SR the destination took."""
    with database.transaction() as session:
        screening = screened_study(session)
        for delivery in screening.deliveries:
            deliveries.mark_delivered(session, delivery.id, to_commit=True)
        session.flush()
        deliveries.settle(session, screening.id)
        assert screening.study.state is StudyState.COMPLETED


def once(committer: Committer) -> int:
    ((_, round_),) = committer.rounds()
    return round_()


def stands(database: Database) -> dict[str, tuple[DeliveryState, CommitmentState]]:
    with database.reading() as session:
        return {
            d.kind: (d.state, d.commitment) for d in session.query(Delivery).order_by(Delivery.id)
        }


def study_state(database: Database) -> tuple[StudyState, str]:
    with database.reading() as session:
        study = studies.find(session, "1.2.3")
        return study.state, study.reason


DELIVERED, PENDING = DeliveryState.DELIVERED, DeliveryState.PENDING
COMMITTED, WAITING = CommitmentState.COMMITTED, CommitmentState.WAITING


def test_what_a_query_finds_is_committed_and_the_rest_asked_for_again(database, pacs, tmp_path):
    deliver(database)
    pacs.found = {SEG}
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.QUERY)
    assert once(asker) == 2
    assert stands(database) == {"seg": (DELIVERED, COMMITTED), "sr": (DELIVERED, WAITING)}
    pacs.found.add(SR)
    assert once(asker) == 1
    assert stands(database)["sr"] == (DELIVERED, COMMITTED)
    assert once(asker) == 0
    assert study_state(database) == (StudyState.COMPLETED, "delivered")


def test_what_is_never_found_is_sent_again_and_at_last_a_persons_matter(database, pacs, tmp_path):
    deliver(database)
    pacs.found = {SEG}
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.QUERY, report_seconds=0)
    assert once(asker) == 2
    assert stands(database)["sr"] == (PENDING, CommitmentState.NOT_ASKED)
    assert study_state(database) == (StudyState.DELIVERING, "not_committed")

    for failures in range(2, commitments.MOST_FAILURES + 1):
        with database.transaction() as session:
            (due,) = deliveries.take_due(session, "pacs", 60)
            deliveries.mark_delivered(session, due.id, to_commit=True)
            session.flush()
            deliveries.settle(session, due.screening_id)
        assert once(asker) == 1
        with database.reading() as session:
            (sr,) = session.query(Delivery).filter_by(kind="sr")
            assert sr.commitment_failures == failures
    assert stands(database)["sr"][0] is DeliveryState.REFUSED
    assert study_state(database) == (StudyState.FAILED, "delivery_refused")
    with database.reading() as session:
        (line,) = audit.in_order(session)
    assert (line.action, line.outcome) == (AuditAction.RESULT_SENT, AuditOutcome.SERIOUS_FAILURE)
    assert (line.study_instance_uid, line.detail["error"]) == ("1.2.3", "not_kept_by_destination")


def deliver_and_be_refused(database: Database) -> None:
    """A failed study: "pacs" took its SEG and SR, "other" refused a copy of the SEG."""
    with database.transaction() as session:
        screening = screened_study(session)
        for delivery in screening.deliveries:
            deliveries.mark_delivered(session, delivery.id, to_commit=True)
        refused = Delivery(
            destination="other",
            kind="seg",
            sop_class_uid="1.2",
            sop_instance_uid=SEG,
            series_instance_uid="1.5",
            path="seg.dcm",
            sha256="0" * 64,
            state=PENDING,
            next_attempt_at=now(session),
        )
        screening.deliveries.append(refused)
        session.flush()
        deliveries.mark_refused(session, refused.id, "status 0x0122")
        session.flush()
        deliveries.settle(session, screening.id)
        assert screening.study.state is StudyState.FAILED


def detail(database: Database) -> str:
    with database.reading() as session:
        return studies.find(session, "1.2.3").detail


def test_what_is_not_kept_is_sent_again_though_another_destination_refused(database):
    deliver_and_be_refused(database)
    with database.transaction() as session:
        commitments.send_again(session, "pacs", SR, "gone", lambda _: 0)
    assert study_state(database) == (StudyState.DELIVERING, "not_committed")
    assert detail(database) == "pacs sr: not kept: gone"
    for _ in range(commitments.MOST_FAILURES - 1):
        with database.transaction() as session:
            (due,) = deliveries.take_due(session, "pacs", 60)
            deliveries.mark_delivered(session, due.id, to_commit=True)
            session.flush()
            deliveries.settle(session, due.screening_id)
        assert study_state(database) == (StudyState.FAILED, "delivery_refused")
        assert detail(database) == "other seg: status 0x0122"
        with database.transaction() as session:
            commitments.send_again(session, "pacs", SR, "gone", lambda _: 0)
    assert study_state(database) == (StudyState.FAILED, "delivery_refused")
    assert "other seg: status 0x0122" in detail(database)
    assert "pacs sr: sent 5 times and not kept: gone" in detail(database)


def test_of_a_study_without_its_files_nothing_waits_to_be_sent_again(database):
    deliver(database)
    with database.transaction() as session:
        study = studies.find(session, "1.2.3")
        events.move(session, study, StudyEvent.FILES_LOST, Progress.FILES_LOST)
    with database.transaction() as session:
        commitments.send_again(session, "pacs", SR, "gone", lambda _: 0)
    assert stands(database)["sr"][0] is DeliveryState.REFUSED
    assert study_state(database) == (StudyState.FAILED, "files_lost")


def test_a_destination_that_cannot_be_asked_is_asked_again_and_nothing_is_sent(database, tmp_path):
    deliver(database)
    (nobody,) = free_ports(1)
    once(committer(database, tmp_path, nobody, CommitmentMethod.QUERY, pause=30))
    assert set(stands(database).values()) == {(DELIVERED, WAITING)}
    with database.reading() as session:
        sr = session.query(Delivery).filter_by(kind="sr").one()
        assert "could not be reached" in sr.commitment_error
        assert sr.commitment_due_at > now(session)


def reported(database: Database, folder: Path, *, committed=(), failed=(), transaction=None) -> int:
    """Let the listener leave a report, and take it up; how many were taken."""
    with database.reading() as session:
        asked = session.query(CommitmentRequest).order_by(CommitmentRequest.requested_at).all()
    folder.mkdir(exist_ok=True)
    uid = transaction or asked[-1].transaction_uid
    CommitmentReports(folder).write(CommitmentReport(uid, tuple(committed), tuple(failed)))
    return committer(database, folder, 1, CommitmentMethod.STORAGE_COMMITMENT).take_reports()


def test_a_report_commits_and_sends_again(database, pacs, tmp_path):
    deliver(database)
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.STORAGE_COMMITMENT)
    assert once(asker) == 2
    assert len(pacs.requests) == 1
    assert set(stands(database).values()) == {(DELIVERED, CommitmentState.REQUESTED)}
    assert once(asker) == 0, "a report is waited for"

    gone = [(SR, "0x0112 no such object instance")]
    assert reported(database, tmp_path, committed=[SEG], failed=gone) == 1
    assert stands(database) == {
        "seg": (DELIVERED, COMMITTED),
        "sr": (PENDING, CommitmentState.NOT_ASKED),
    }
    assert study_state(database) == (StudyState.DELIVERING, "not_committed")


def test_without_a_report_it_is_asked_again_and_a_late_one_still_counts(database, pacs, tmp_path):
    deliver(database)
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.STORAGE_COMMITMENT)
    once(asker)
    with database.transaction() as session:
        for delivery in session.query(Delivery):
            delivery.commitment_due_at -= timedelta(seconds=601)
    assert once(asker) == 2
    first, second = pacs.requests
    assert first != second
    reported(database, tmp_path, committed=[SEG, SR], transaction=first)
    assert set(stands(database).values()) == {(DELIVERED, COMMITTED)}


def test_a_report_nobody_asked_for_changes_nothing(database, pacs, tmp_path):
    deliver(database)
    assert reported(database, tmp_path, committed=[SEG, SR], transaction="1.2.3.4") == 1
    assert set(stands(database).values()) == {(DELIVERED, WAITING)}


def test_a_report_that_is_read_twice_changes_nothing_the_second_time(database, pacs, tmp_path):
    deliver(database)
    once(committer(database, tmp_path, pacs.port, CommitmentMethod.STORAGE_COMMITMENT))
    reported(database, tmp_path, failed=[(SR, "0x0112")])
    reported(database, tmp_path, failed=[(SR, "0x0112")])
    with database.reading() as session:
        assert session.query(Delivery).filter_by(kind="sr").one().commitment_failures == 1


def ask_once_more(database: Database, asker: Committer) -> None:
    """The time for a report is over, or a new copy is there: the PACS is asked again."""
    with database.transaction() as session:
        for delivery in session.query(Delivery).filter_by(kind="sr"):
            delivery.commitment_due_at = now(session) - timedelta(seconds=1)
    assert once(asker) == 1


def test_a_failure_repeated_after_the_object_was_sent_again_refuses_no_new_copy(
    database, pacs, tmp_path
):
    deliver(database)
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.STORAGE_COMMITMENT)
    once(asker)
    (first,) = pacs.requests
    gone = [(SR, "0x0112")]
    reported(database, tmp_path, committed=[SEG], failed=gone)
    with database.transaction() as session:
        (due,) = deliveries.take_due(session, "pacs", 60)
        deliveries.mark_delivered(session, due.id, to_commit=True)
        session.flush()
        deliveries.settle(session, due.screening_id)
    reported(database, tmp_path, failed=gone, transaction=first)
    assert stands(database)["sr"] == (DELIVERED, WAITING)

    ask_once_more(database, asker)
    reported(database, tmp_path, failed=gone, transaction=first)
    assert stands(database)["sr"] == (DELIVERED, CommitmentState.REQUESTED)
    reported(database, tmp_path, failed=gone, transaction=pacs.requests[-1])
    assert stands(database)["sr"][0] is PENDING
    with database.reading() as session:
        assert session.query(Delivery).filter_by(kind="sr").one().commitment_failures == 2


def test_a_failure_is_believed_of_objects_that_were_asked_for_alone(database, pacs, tmp_path):
    deliver(database)
    asker = committer(database, tmp_path, pacs.port, CommitmentMethod.STORAGE_COMMITMENT)
    once(asker)
    ask_once_more(database, asker)
    reported(database, tmp_path, failed=[(SEG, "0x0112")], transaction=pacs.requests[-1])
    assert stands(database)["seg"] == (DELIVERED, CommitmentState.REQUESTED)


def test_what_was_superseded_is_not_asked_for(database, pacs, tmp_path):
    deliver(database)
    with database.transaction() as session:
        study = studies.find(session, "1.2.3")
        studies.requeue(session, study, ["pacs"], rescreen=True)
    assert once(committer(database, tmp_path, pacs.port, CommitmentMethod.QUERY)) == 0


def test_with_none_the_answer_to_storing_is_the_promise(database, tmp_path):
    deliver(database)
    once(committer(database, tmp_path, 1, CommitmentMethod.NONE))
    assert set(stands(database).values()) == {(DELIVERED, CommitmentState.NOT_ASKED)}
