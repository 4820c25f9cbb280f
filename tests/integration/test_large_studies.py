"""A study of headers beyond any CT is refused before they are read: the listener lives beside."""

from __future__ import annotations

from dataclasses import replace

from support.study_rows import ct_header, receiving_study

from dicom_node.reading.frames import MOST_FRAMES, FrameHeader
from dicom_node.reading.header import InstanceHeader
from dicom_node.reading.series import SelectionPolicy
from worker.db import studies
from worker.db.engine import now
from worker.db.tables import Instance
from worker.intake.assembler import Assembler
from worker.lifecycle import StudyState


def test_a_study_of_too_large_headers_is_refused_without_reading_them(database, monkeypatch):
    monkeypatch.setattr("worker.intake.assembler._MOST_HEADER_BYTES", 3_000_000)
    assert judged(database, "1.2.3", headers=1) != (StudyState.REFUSED, "too_large")
    read = []
    monkeypatch.setattr(InstanceHeader, "from_json", read.append)
    assert judged(database, "1.2.4", headers=3) == (StudyState.REFUSED, "too_large")
    assert read == []


def judged(database, study_uid: str, headers: int) -> tuple[StudyState, str]:
    """What becomes of a study of so many instances of as many frames as one may have."""
    add_study(database, study_uid, headers)
    assert Assembler(database, SelectionPolicy()).run_once() == 1
    with database.reading() as session:
        study = studies.by_uid(session, study_uid)
        return study.state, study.reason


def add_study(database, study_uid: str, headers: int) -> None:
    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    frame = FrameHeader((1.25, -2.5, 3.0), axial, (0.7, 0.7), 1.25, 1, -1024)
    (encoded,) = replace(ct_header(), frames=(frame,)).to_json()["frames"]
    with database.transaction() as session:
        study = receiving_study(session, study_uid)
        for number in range(headers):
            header = {**ct_header(study_uid, number).to_json(), "frames": [encoded] * MOST_FRAMES}
            session.add(
                Instance(
                    study_id=study.id,
                    series_instance_uid=header["series_instance_uid"],
                    sop_instance_uid=header["sop_instance_uid"],
                    sop_class_uid=header["sop_class_uid"],
                    content_digest=header["content_sha256"],
                    path="",
                    disposition=studies.Disposition.ACCEPTED,
                    header=header,
                    received_at=now(session),
                )
            )
