"""From the spool to a queued screening, with real files."""

import pydicom
import pytest
from sqlalchemy import text
from support.spooling import refusal, spool_file
from support.study_rows import screened_study

from dicom_node.errors import SpoolError
from dicom_node.reading.series import SelectionPolicy
from dicom_node.receiving.spool import Spool
from worker.db import screenings, studies
from worker.db.tables import Event, Instance, Study
from worker.intake.assembler import Assembler
from worker.intake.intake import Intake
from worker.lifecycle import ScreeningState, StudyState
from worker.retention.reconciliation import take_back_forgotten

POISON = (
    "CREATE TRIGGER poison BEFORE INSERT ON instances "
    "WHEN NEW.sop_instance_uid = '{uid}' AND NEW.disposition = 'accepted' "
    "BEGIN SELECT RAISE(ABORT, 'poison'); END"
)


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


@pytest.fixture
def intake(database, spool):
    return Intake(database, spool, settle_seconds=-1)


@pytest.fixture
def assembler(database):
    return Assembler(database, SelectionPolicy())


def only_study(database) -> Study:
    with database.reading() as session:
        study = session.query(Study).one()
        _ = study.screenings, study.series
        for screening in study.screenings:
            _ = screening.deliveries
        return study


def test_a_study_is_recorded_settled_and_queued(database, spool, intake, assembler, series_files):
    for path in series_files:
        spool_file(spool, path)
    assert intake.run_once() == len(series_files)
    assert only_study(database).state is StudyState.RECEIVING
    assert list(spool.inbox()) == []
    assert assembler.run_once() == 1
    study = only_study(database)
    assert (study.state, study.reason) == (StudyState.QUEUED, "waiting_for_worker")
    assert [s.state for s in study.screenings] == [ScreeningState.QUEUED]
    assert [s.chosen for s in study.series] == [True]
    with database.reading() as session:
        stored = studies.series_instances(session, study.id, study.series[0].series_instance_uid)
        assert all((spool.root / instance.path).is_file() for instance in stored)
        assert {instance.calling_ae_title for instance in stored} == {"SENDER"}


def test_sending_again_changes_nothing(database, spool, intake, assembler, series_files):
    for _ in range(2):
        for path in series_files:
            spool_file(spool, path)
        intake.run_once()
        assembler.run_once()
    study = only_study(database)
    assert study.duplicate_count == len(series_files)
    assert (study.state, study.revision) == (StudyState.QUEUED, 1)
    assert list(spool.inbox()) == []


def test_a_late_instance_makes_a_new_revision(database, spool, intake, assembler, series_files):
    *early, late = series_files
    for path in early:
        spool_file(spool, path)
    intake.run_once()
    assembler.run_once()
    spool_file(spool, late)
    intake.run_once()
    assert only_study(database).state is StudyState.RECEIVING
    assembler.run_once()
    study = only_study(database)
    assert study.revision == 2
    assert [s.state for s in study.screenings] == [
        ScreeningState.SUPERSEDED,
        ScreeningState.QUEUED,
    ]


def test_when_the_chosen_series_is_refused_the_next_best_is_screened(
    database, spool, intake, assembler, series_files, tmp_path
):
    for number, path in enumerate(series_files):
        spool_file(spool, path)
        other = pydicom.dcmread(path)
        other.SeriesInstanceUID = "1.2.3.4"
        other.SOPInstanceUID = f"1.2.3.4.{number}"
        other.save_as(tmp_path / "other.dcm")
        spool_file(spool, tmp_path / "other.dcm")
    intake.run_once()
    chosen = []
    for _ in range(2):
        assembler.run_once()
        with database.transaction() as session:
            screening = screenings.current(session.query(Study).one())
            chosen.append(screening.series_instance_uid)
            claim = screenings.claim(session, screening.id, "here", 60)
            screenings.refuse(session, claim, "no_lung", "no lung in it")
    assert len(set(chosen)) == 2
    assembler.run_once()
    study = only_study(database)
    assert (study.state, study.reason) == (StudyState.REFUSED, "no_lung")
    assert {(s.chosen, s.reason) for s in study.series} == {(False, "no_lung")}


def test_a_crash_between_record_and_move_is_mended(database, spool, intake, series_files):
    source = spool_file(spool, series_files[0])
    kept = source.path.read_bytes()
    intake.run_once()
    with database.reading() as session:
        filed = spool.root / session.query(Instance).one().path
    filed.rename(source.path)
    intake.run_once()
    assert filed.read_bytes() == kept
    assert list(spool.inbox()) == []
    assert only_study(database).duplicate_count == 0


def test_other_bytes_under_a_known_uid_are_kept_apart_and_flagged(
    database, spool, intake, series_files, tmp_path
):
    changed = pydicom.dcmread(series_files[0])
    changed.SeriesDescription = "another"
    changed.save_as(tmp_path / "changed.dcm")
    spool_file(spool, series_files[0])
    intake.run_once()
    spool_file(spool, tmp_path / "changed.dcm")
    intake.run_once()
    with database.reading() as session:
        first, second = session.query(Instance).order_by(Instance.id)
        assert (first.disposition, second.disposition) == ("accepted", "conflict")
        assert (spool.root / first.path).is_file()
        assert (spool.root / second.path).is_file()
    assert only_study(database).conflict_count == 1


def test_a_whole_instance_takes_the_place_of_a_cut_one(
    database, spool, intake, assembler, series_files, tmp_path
):
    for path in series_files[1:]:
        spool_file(spool, path)
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(series_files[0].read_bytes()[:-1000])
    spool_file(spool, cut)
    intake.run_once()
    assembler.run_once()
    assert only_study(database).reason == "short_pixel_data"
    spool_file(spool, series_files[0])
    intake.run_once()
    assembler.run_once()
    assert only_study(database).state is StudyState.QUEUED


def test_a_copy_of_instances_under_another_study_is_refused_visibly(
    database, spool, intake, assembler, series_files, tmp_path
):
    copy = pydicom.dcmread(series_files[0])
    copy.StudyInstanceUID = "1.2.3.4"
    copy.save_as(tmp_path / "copy.dcm")
    spool_file(spool, series_files[0])
    spool_file(spool, tmp_path / "copy.dcm")
    intake.run_once()
    assembler.run_once()
    with database.reading() as session:
        study = studies.by_uid(session, "1.2.3.4")
        assert (study.state, study.reason) == (StudyState.REFUSED, "conflicting_duplicates")


def test_files_that_are_none_of_the_spool_hold_up_nothing(database, spool, intake, series_files):
    inbox = spool.root / "inbox"
    (inbox / "a-folder").mkdir()
    (inbox / "empty-0000.dcm").touch()
    (inbox / "garbage-0001.dcm").write_bytes(b"not what a listener writes")
    spool_file(spool, series_files[0])
    intake.run_once()
    assert [p.name for p in inbox.iterdir()] == ["a-folder"]
    with database.reading() as session:
        assert session.query(Instance).filter_by(disposition="accepted").count() == 1
        assert session.query(Instance).filter_by(disposition="quarantined").count() == 2


def come_again_after_quarantine(database, spool, intake, path) -> str:
    """Let an instance come when it cannot be recorded, and again; give its UID."""
    uid = str(pydicom.dcmread(path).SOPInstanceUID)
    with database.transaction() as session:
        session.execute(text(POISON.format(uid=uid)))
    spool_file(spool, path)
    intake.run_once()
    assert len(list((spool.root / "quarantine").iterdir())) == 2
    with database.transaction() as session:
        session.execute(text("DROP TRIGGER poison"))
    spool_file(spool, path)
    intake.run_once()
    return uid


def test_a_quarantined_instance_that_can_be_read_later_joins_its_study(
    database, spool, intake, series_files
):
    first = come_again_after_quarantine(database, spool, intake, series_files[0])
    assert list((spool.root / "quarantine").iterdir()) == [], "its first copy stands for nothing"
    with database.reading() as session:
        (instance,) = studies.same_instance(session, first)
        assert instance.disposition == "accepted"
        assert (spool.root / instance.path).is_file()
        stand_in = studies.by_uid(session, f"unreadable-{first}")
        assert (stand_in.state, stand_in.reason) == (StudyState.IGNORED, "received_again")


def test_its_copy_in_quarantine_goes_also_where_it_cannot_be_moved_at_first(
    database, spool, intake, series_files, monkeypatch
):
    def fail(*_):
        raise SpoolError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "file_into_study", fail)
        come_again_after_quarantine(database, spool, intake, series_files[0])
    assert list((spool.root / "quarantine").iterdir()) == []
    assert intake.run_once() == 1
    assert list(spool.inbox()) == []


def test_what_a_killed_node_leaves_in_quarantine_is_taken_back(
    database, spool, intake, series_files, monkeypatch
):
    class Killed(BaseException):
        """The end of the process at this point."""

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "forget_quarantined", die)
        with pytest.raises(Killed):
            come_again_after_quarantine(database, spool, intake, series_files[0])
    assert take_back_forgotten(database, spool.root) == 1
    assert intake.run_once() == 1
    assert list((spool.root / "quarantine").iterdir()) == []
    with database.reading() as session:
        accepted = session.query(Instance).filter_by(disposition="accepted").one()
        assert (spool.root / accepted.path).is_file()


def test_what_is_no_dicom_is_quarantined_and_visible(database, spool, intake):
    spool.store(
        b"dear colleague, please find attached",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="SENDER",
        called_ae_title="LUNGWATCH",
    )
    intake.run_once()
    study = only_study(database)
    assert study.state is StudyState.REFUSED
    assert study.reason in {"not_dicom", "missing_attributes"}
    assert study.study_instance_uid == "unreadable-1.2.3.4"
    assert take_back_forgotten(database, spool.root) == 0, "it has its record"
    with database.reading() as session:
        assert (spool.root / session.query(Instance).one().path).is_file()


def test_an_instance_that_cannot_be_recorded_holds_up_no_other(
    database, spool, intake, series_files
):
    first, second = (pydicom.dcmread(p).SOPInstanceUID for p in series_files[:2])
    with database.transaction() as session:
        session.execute(text(POISON.format(uid=first)))
    for path in series_files[:2]:
        spool_file(spool, path)
    intake.run_once()
    assert list(spool.inbox()) == []
    with database.reading() as session:
        failed = studies.by_uid(session, f"unreadable-{first}")
        assert (failed.state, failed.reason) == (StudyState.FAILED, "processing_error")
        assert (spool.root / failed.instances[0].path).is_file()
        assert [i.disposition for i in studies.same_instance(session, second)] == ["accepted"]


def test_a_study_that_cannot_be_judged_holds_up_no_other(
    database, spool, intake, assembler, series_files, data_dir
):
    spool_file(spool, series_files[0])
    intake.run_once()
    with database.transaction() as session:
        session.query(Instance).update({"header": {"frames": "none"}})
    spool_file(spool, data_dir / "odd" / "ts-matrix-ge-slice" / "CTImage.dcm")
    intake.run_once()
    assembler.run_once()
    with database.reading() as session:
        reasons = [study.reason for study in session.query(Study).order_by(Study.id)]
    assert reasons == ["processing_error", "too_few_slices"]


def test_our_own_result_coming_back_is_not_screened(
    database, spool, intake, assembler, series_files, tmp_path
):
    returned = pydicom.dcmread(series_files[0])
    with database.transaction() as session:
        screening = screened_study(session, str(returned.StudyInstanceUID))
        screening.deliveries[0].sop_instance_uid = returned.SOPInstanceUID
    spool_file(spool, series_files[0])
    intake.run_once()
    assembler.run_once()
    with database.reading() as session:
        instance = session.query(Instance).one()
        assert (instance.disposition, instance.reason) == ("ignored", "own_result")
    assert only_study(database).state is StudyState.DELIVERING


def test_refusals_at_the_association_are_in_the_event_log(database, spool, intake):
    spool.note_refusal(refusal())
    intake.run_once()
    with database.reading() as session:
        event = session.query(Event).one()
    assert event.event == "refused_at_association"
    assert event.detail["calling_ae_title"] == "STRANGER"
    assert list(spool.refusals()) == []


def test_every_odd_file_ends_in_a_visible_state(database, spool, intake, assembler, data_dir):
    odd = sorted(
        p for p in (data_dir / "odd").rglob("*") if p.is_file() and "LICENSE" not in p.name
    )
    sent = {spool_file(spool, path).path.name for path in odd if path.name != "DIRFILE"}
    intake.run_once()
    assembler.run_once()
    with database.reading() as session:
        instances = session.query(Instance).all()
        assert len(instances) == len(sent)
        assert all((spool.root / instance.path).is_file() for instance in instances)
        for study in session.query(Study):
            assert study.state in {StudyState.REFUSED, StudyState.IGNORED}, study.reason
            assert study.reason
        reasons = {study.reason for study in session.query(Study)}
        series_reasons = {line.reason for study in session.query(Study) for line in study.series}
    assert "not_axial" in series_reasons
    assert "not_chest" in series_reasons
    assert "too_few_slices" in reasons
