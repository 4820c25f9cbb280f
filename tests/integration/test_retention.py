"""Retention: what may go, that nothing unsent ever does, and that it can come again."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage
from support.command import lungwatch
from support.delivered_site import clean, delivered_site, files_of
from support.installation import Installation
from support.quick_screening import QuickPredictor
from support.study_rows import receiving_study, screened_study

from worker import dispatch
from worker.audit_entry import AuditAction
from worker.db import audit, commitments, deliveries, events, retention, studies
from worker.db.engine import now
from worker.db.retention import Why
from worker.db.tables import Review
from worker.errors import TransitionError
from worker.judgement import Lesions, ReviewDecision
from worker.lifecycle import CommitmentState, DeliveryState, Progress, StudyEvent, StudyState

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

    from worker.db.tables import Screening

COMMITTED = CommitmentState.COMMITTED
# Where the same condition was tried on both databases before.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def delivered(session: Session, commitment: CommitmentState) -> Screening:
    screening = screened_study(session)
    for delivery in screening.deliveries:
        deliveries.mark_delivered(session, delivery.id)
        delivery.commitment = commitment
    session.flush()
    deliveries.settle(session, screening.id)
    return screening


def may_go(session: Session) -> set[Why]:
    session.flush()
    return {why for why in Why if retention.due(session, why, None, 10)}


def test_what_every_destination_keeps_may_go(database):
    with database.transaction() as session:
        delivered(session, COMMITTED)
        assert may_go(session) == {Why.DELIVERED, Why.PRESSED}


@on_sqlite
@pytest.mark.parametrize("commitment", [CommitmentState.WAITING, CommitmentState.REQUESTED])
def test_what_is_not_yet_promised_stays(database, commitment):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        screening.deliveries[1].commitment = commitment
        assert may_go(session) == set()


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.REFUSED])
def test_what_is_not_delivered_stays_whatever_its_study_says(database, state):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        screening.deliveries[1].state = state
        assert may_go(session) == set()
        screening.study.state = StudyState.FAILED
        assert may_go(session) == set()


@pytest.mark.parametrize("commitment", [CommitmentState.WAITING, CommitmentState.REQUESTED])
def test_a_destination_that_is_set_no_longer_holds_nothing_back(database, commitment):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        screening.deliveries[1].commitment = commitment
        session.flush()
        commitments.end_unknown(session, ["pacs"])
        assert may_go(session) == set(), "what is set is waited for"
        commitments.end_unknown(session, ["renamed"])
        assert may_go(session) == {Why.DELIVERED, Why.PRESSED}
        first, second = screening.deliveries
        assert first.commitment is COMMITTED
        assert second.commitment is CommitmentState.NOT_ASKED
        assert "pacs is not among the destinations any more" in second.commitment_error
        log = events.of_study(session, screening.study)
        assert log[-1].event == "commitment_given_up"
        assert log[-1].detail["destination"] == "pacs"


@on_sqlite
def test_a_node_that_starts_gives_up_the_promises_of_a_destination_it_does_not_know(
    database, tmp_path
):
    with database.transaction() as session:
        delivered(session, CommitmentState.WAITING)
    settings = Installation(tmp_path, destinations="dimse://renamed@127.0.0.1:9").settings
    dispatch.deliverer(settings, database).take_over()
    with database.transaction() as session:
        assert may_go(session) == {Why.DELIVERED, Why.PRESSED}


@on_sqlite
def test_a_result_that_is_nowhere_else_stays(database):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        for delivery in screening.deliveries:
            delivery.state = DeliveryState.CANCELLED
        screening.study.reason = Progress.NO_DESTINATION
        assert may_go(session) == set()


@on_sqlite
@pytest.mark.parametrize("state", [StudyState.RECEIVING, StudyState.QUEUED, StudyState.SCREENING])
def test_work_stays(database, state):
    with database.transaction() as session:
        receiving_study(session).state = state
        assert may_go(session) == set()


def test_what_was_refused_has_a_time_of_its_own(database):
    with database.transaction() as session:
        study = receiving_study(session)
        events.move(session, study, StudyEvent.REFUSED, "too_few_slices")
        assert may_go(session) == {Why.REFUSED}
        moment = now(session)
        assert not retention.due(session, Why.REFUSED, moment - timedelta(days=1), 10)
        study.updated_at = moment - timedelta(days=2)
        session.flush()
        assert retention.due(session, Why.REFUSED, moment - timedelta(days=1), 10)


def test_a_reviewed_study_is_kept_for_learning_even_where_the_disk_is_full(database):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        session.add(
            Review(
                study_id=screening.study_id,
                screening_id=screening.id,
                reviewed_at=now(session),
                reviewer="radiologist",
                decision=ReviewDecision.ACCEPTED,
                lesions=Lesions.UNKNOWN,
            )
        )
        assert may_go(session) == {Why.REVIEWED}
        assert not retention.due(session, Why.REVIEWED, now(session) - timedelta(days=1), 10)


@on_sqlite
def test_a_study_that_became_work_again_is_not_marked(database):
    with database.transaction() as session:
        screening = delivered(session, COMMITTED)
        studies.requeue(session, screening.study, ["pacs"])
        assert not retention.mark(session, screening.study_id, Why.DELIVERED)
        assert screening.study.cleaned_at is None


@pytest.fixture
def site(tmp_path: Path, storing_pacs: int) -> Installation:
    return delivered_site(tmp_path, storing_pacs)


def test_files_leave_the_disk_and_the_record_stays(site):
    assert len(files_of(site)) == len(site.files) + 3
    assert clean(site) == 1
    assert files_of(site) == []
    assert list((site.settings.spool_dir / "studies").iterdir()) == []
    study = site.study()
    assert (study.state, study.files_to_remove) == (StudyState.COMPLETED, False)
    assert study.cleaned_at
    assert study.screenings[0].result["positive"]
    assert clean(site) == 0


def test_what_a_crash_left_of_a_marked_study_is_removed_by_the_next_round(site):
    with site.database.transaction() as session:
        assert retention.mark(session, site.study().id, Why.DELIVERED)
    assert files_of(site)
    assert clean(site) == 0
    assert files_of(site) == []
    assert not site.study().files_to_remove


def test_reconciling_brings_nothing_back_that_was_given_up(site):
    with site.database.transaction() as session:
        assert retention.mark(session, site.study().id, Why.DELIVERED)
    done = lungwatch("db", "reconcile", "--json", data_dir=site.settings.data_dir)
    assert done.code == 0, done.stderr
    assert set(done.json.values()) == {0}
    assert files_of(site) == []
    assert list((site.settings.spool_dir / "inbox").iterdir()) == []
    assert not site.study().files_to_remove


def test_no_files_go_without_a_line_in_the_audit_trail(site, monkeypatch):
    class Killed(BaseException):
        """The end of the process at this point."""

    def die(*_: object) -> None:
        raise Killed

    size = sum(path.stat().st_size for path in files_of(site))
    with monkeypatch.context() as patch:
        # The last thing that is done for a study: its files are gone.
        patch.setattr(retention, "removed", die)
        with pytest.raises(Killed):
            clean(site)
    assert files_of(site) == []
    clean(site)
    with site.database.reading() as session:
        cleaned = [
            (line.study_instance_uid, line.detail)
            for line in audit.in_order(session)
            if line.action is AuditAction.STUDIES_CLEANED
        ]
    assert cleaned == [(site.study().study_instance_uid, {"why": "delivered", "bytes": size})]


def test_an_instance_that_comes_again_before_its_file_is_removed_is_not_lost(site):
    """The order in which only the lock of the study tells who was first."""
    with site.database.transaction() as session:
        assert retention.mark(session, site.study().id, Why.DELIVERED)
    site.receive(site.files[:1])
    assert clean(site, retention_days=0) == 0
    (left,) = files_of(site)
    assert left.parent.parent == site.settings.spool_dir / "studies"


def test_a_requeue_says_what_to_do_and_the_study_sent_again_gives_the_same_result(site):
    before = site.study().screenings[0]
    assert clean(site) == 1
    with (
        pytest.raises(TransitionError, match="send it again, then requeue it"),
        site.database.transaction() as session,
    ):
        studies.requeue(session, studies.find(session, "1"), ["PACS"])

    site.receive(site.files)
    study = site.study()
    assert (study.state, study.cleaned_at) == (StudyState.COMPLETED, None)
    assert len(study.screenings) == 1, "nothing new came, so nothing is screened again"
    with site.database.transaction() as session:
        studies.requeue(session, studies.find(session, "1"), ["PACS"])
    site.assembler.run_once()
    site.screen(QuickPredictor())
    site.deliver()
    study = site.study()
    assert study.state is StudyState.COMPLETED
    after = study.screenings[-1]
    assert after.revision == 2
    assert after.result_identity == before.result_identity
    assert sorted(d.sha256 for d in after.deliveries) == sorted(d.sha256 for d in before.deliveries)


def test_a_part_that_comes_again_changes_nothing_and_a_new_slice_asks_for_the_rest(site, tmp_path):
    assert clean(site) == 1
    site.receive(site.files[:4])
    study = site.study()
    assert (study.state, study.reason) == (StudyState.COMPLETED, "delivered")

    late = dcmread(site.files[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    late.ImagePositionPatient[2] -= 5
    late.save_as(tmp_path / "late.dcm")
    site.receive([tmp_path / "late.dcm"])
    study = site.study()
    assert (study.state, study.reason) == (StudyState.REFUSED, "images_cleaned")
    assert clean(site) == 0, "what is new is kept"

    site.receive(site.files)
    assert site.study().state is StudyState.QUEUED


def test_what_comes_after_the_files_went_goes_in_its_time(site, tmp_path):
    assert clean(site) == 1
    late = dcmread(site.files[0])
    late.SOPClassUID = late.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.98"
    late.save_as(tmp_path / "report.dcm")
    site.receive([tmp_path / "report.dcm"])
    assert (site.study().state, len(files_of(site))) == (StudyState.COMPLETED, 1)
    assert clean(site, retention_days=1) == 0
    assert (clean(site), files_of(site)) == (1, [])

    late = dcmread(site.files[0])
    late.SOPInstanceUID = late.file_meta.MediaStorageSOPInstanceUID = "1.2.3.99"
    late.ImagePositionPatient[2] -= 5
    late.save_as(tmp_path / "slice.dcm")
    site.receive([tmp_path / "slice.dcm"])
    assert (site.study().state, len(files_of(site))) == (StudyState.REFUSED, 1)
    assert clean(site, retention_refused_days=1) == 0
    assert (clean(site, retention_refused_days=1e-10), files_of(site)) == (1, [])
    assert clean(site, retention_refused_days=1e-10) == 0


def test_low_disk_takes_delivered_studies_before_their_time(site):
    settings = site.settings.model_copy(
        update={"retention_days": 365, "retention_free_mb": 1 << 40}
    )
    assert dispatch.retention(settings, site.database).run_once() == 1
    assert files_of(site) == []


def test_the_disk_is_kept_above_what_the_listener_needs(site):
    free_mb = shutil.disk_usage(site.settings.spool_dir).free >> 20
    low = {"retention_days": 365, "retention_free_mb": 1}
    assert clean(site, **low, minimum_free_mb=0) == 0
    assert clean(site, **low, minimum_free_mb=free_mb + 1000) == 1


def test_the_command_tells_first_and_then_does_it(site):
    given = {
        name: getattr(site.settings, name)
        for name in ("data_dir", "retention_days", "retention_free_mb")
    }
    told = lungwatch("studies", "clean", "--dry-run", "--json", **given)
    assert told.code == 0, told.stderr
    (study,) = told.json
    assert (study["study_id"], study["why"]) == (1, "delivered")
    assert study["size"] == sum(path.stat().st_size for path in files_of(site)) > 0
    assert lungwatch("studies", "clean", "--json", **given).json == told.json
    assert files_of(site) == []
    requeued = lungwatch("studies", "requeue", "1", **given, destinations="dimse://P@h:104")
    assert requeued.code == 7
    assert "send it again" in requeued.stderr
    assert "were removed here on" in lungwatch("studies", "show", "1", **given).stdout
