"""Two objects under one SOP Instance UID: the first is kept, the other flagged, CT or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage, CTImageStorage, SecondaryCaptureImageStorage
from support.small_ct import write_small_ct
from support.spooling import spool_file
from support.study_rows import screened_study

from dicom_node.reading.series import SelectionPolicy
from worker.db.tables import Event, Instance, Study
from worker.intake.assembler import Assembler
from worker.intake.intake import Intake
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_node.receiving.spool import Spool
    from worker.db.engine import Database

UID = "1.2.3.98"


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write an instance of a class under the one UID, and with a description of its own."""
    (first, *_) = write_small_ct(tmp_path / "ct")

    def write(sop_class_uid: str, description: str, study_uid: str = "1.2.3") -> Path:
        instance = dcmread(first)
        instance.SOPClassUID = instance.file_meta.MediaStorageSOPClassUID = sop_class_uid
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID = UID
        instance.StudyInstanceUID = study_uid
        instance.SeriesDescription = description
        path = tmp_path / f"{description}.dcm"
        instance.save_as(path)
        return path

    return write


def take(database: Database, spool: Spool, *paths: Path) -> list[tuple[str, str | None]]:
    """Record instances one after the other, and judge; give what was done with each."""
    intake = Intake(database, spool, settle_seconds=-1)
    for path in paths:
        spool_file(spool, path)
        intake.run_once()
    Assembler(database, SelectionPolicy()).run_once()
    with database.reading() as session:
        instances = session.query(Instance).order_by(Instance.id).all()
        assert all((spool.root / instance.path).is_file() for instance in instances)
        return [(instance.disposition, instance.reason) for instance in instances]


CONFLICT = ("conflict", "conflicting_duplicates")
IGNORED = ("ignored", "not_ct")


@pytest.mark.parametrize("sop_class_uid", [BasicTextSRStorage, SecondaryCaptureImageStorage])
def test_two_objects_that_are_no_ct_are_flagged(database, spool, write, sop_class_uid):
    first, other = write(sop_class_uid, "first"), write(sop_class_uid, "other")
    assert take(database, spool, first, other, other, first) == [IGNORED, CONFLICT]
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.conflict_count, study.duplicate_count) == (1, 2)
        # It holds nothing to screen, whichever of the two is right.
        assert (study.state, study.reason) == (StudyState.IGNORED, "nothing_to_screen")
        event = session.query(Event).filter_by(event="instance_conflict").one()
        assert event.detail["sop_instance_uid"] == UID


def test_the_same_uid_in_another_study_is_flagged_there(database, spool, write):
    first = write(BasicTextSRStorage, "first")
    other = write(BasicTextSRStorage, "other", study_uid="1.2.4")
    assert take(database, spool, first, other) == [IGNORED, CONFLICT]
    with database.reading() as session:
        counts = [study.conflict_count for study in session.query(Study).order_by(Study.id)]
    assert counts == [0, 1]


def test_a_ct_under_the_uid_of_a_report_is_refused_visibly(database, spool, write):
    report, image = write(BasicTextSRStorage, "report"), write(CTImageStorage, "image")
    assert take(database, spool, report, image) == [IGNORED, CONFLICT]
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.state, study.reason) == (StudyState.REFUSED, "conflicting_duplicates")


def test_a_report_under_the_uid_of_a_ct_takes_nothing_away(database, spool, write):
    image, report = write(CTImageStorage, "image"), write(BasicTextSRStorage, "report")
    cut = image.with_name("cut.dcm")
    cut.write_bytes(image.read_bytes()[:-1000])
    assert take(database, spool, cut, report) == [("accepted", None), CONFLICT]
    # But what is whole takes the place of what was cut.
    assert take(database, spool, image) == [("replaced", None), CONFLICT, ("accepted", None)]


def test_what_could_not_be_read_stands_in_nobodys_way(database, spool, write):
    report = write(BasicTextSRStorage, "report")
    spool.store(
        b"cut before it says what it is",
        sop_class_uid=BasicTextSRStorage,
        sop_instance_uid=UID,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="SENDER",
        called_ae_title="LUNGWATCH",
    )
    (quarantined, taken) = take(database, spool, report)
    assert (quarantined[0], taken) == ("quarantined", IGNORED)


def test_our_own_result_may_come_back_changed(database, spool, write):
    """A PACS may add to it, or encode it otherwise."""
    with database.transaction() as session:
        screening = screened_study(session, "1.2.3")
        screening.deliveries[0].sop_instance_uid = UID
    first, other = write(BasicTextSRStorage, "first"), write(BasicTextSRStorage, "other")
    assert take(database, spool, first, other) == [("ignored", "own_result")] * 2
    with database.reading() as session:
        assert session.query(Study).one().conflict_count == 0
