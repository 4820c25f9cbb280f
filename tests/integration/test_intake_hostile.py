"""What a sender or a disk can do to the intake: a coded reason, and the others go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import text
from support.spooling import encoded_dataset, spool_file

from dicom_node.errors import RefusedError
from dicom_node.reading.decoder import Decoder
from dicom_node.reading.decoder_process import DecoderLimits
from dicom_node.reading.integrity import check_content, content_digest_of_file
from dicom_node.reading.reader import read_ct_series
from dicom_node.reading.series import SelectionPolicy
from dicom_node.reasons import Reason
from dicom_node.receiving.spool import Spool, uid_hash
from worker.db import schema, screenings, studies
from worker.db.engine import Database
from worker.db.tables import Instance, Study
from worker.intake.assembler import Assembler
from worker.intake.intake import Intake
from worker.lifecycle import StudyState


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


@pytest.fixture
def postgresql(postgresql_url):
    database = Database(postgresql_url)
    schema.upgrade(database.engine)
    yield database
    database.close()


def store(spool: Spool, dataset: bytes, uid: str, sender: str = "SENDER") -> None:
    spool.store(
        dataset,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title=sender,
        called_ae_title="LUNGWATCH",
    )


SEQUENCE = bytes.fromhex("40007502") + b"SQ\0\0" + b"\xff" * 4
HOSTILE = {
    "20,000 sequences": (SEQUENCE + bytes.fromhex("feff00e0ffffffff")) * 20_000,
    "600,000 items": SEQUENCE + bytes.fromhex("feff00e000000000") * 600_000,
    "a value of 4 GB": bytes.fromhex("09001010") + b"OB\0\0" + b"\xff\xff\xff\xfe" + b"1234",
    "no data set": b"",
    "noise": bytes(range(256)) * 40,
}


def test_no_header_costs_the_intake_more_than_a_reason(database, spool, series_files):
    intake = Intake(database, spool, settle_seconds=-1)
    for number, dataset in enumerate(HOSTILE.values()):
        store(spool, dataset, f"1.2.{number}")
    spool_file(spool, series_files[0])
    before = resident_bytes()
    assert intake.run_once() == len(HOSTILE) + 1
    assert resident_bytes() - before < 20_000_000
    assert list(spool.inbox()) == []
    with database.reading() as session:
        reasons = {
            name: studies.by_uid(session, f"unreadable-1.2.{number}").reason
            for number, name in enumerate(HOSTILE)
        }
        assert session.query(Instance).filter_by(disposition="accepted").count() == 1
    assert reasons == {
        "20,000 sequences": "too_large",
        "600,000 items": "too_large",
        "a value of 4 GB": "missing_attributes",
        "no data set": "missing_attributes",
        "noise": "missing_attributes",
    }


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# What a request may name instead of a UID, and as what it is recorded.
CLAIMED = {
    "1.2\x0034": "1.234",
    "\\".join("1" * 32): uid_hash("\\".join("1" * 32)),
    "1.2.x": uid_hash("1.2.x"),
}


def test_no_name_a_sender_gives_stops_the_intake(postgresql, spool, series_files):
    for uid in CLAIMED:
        store(spool, b"junk!!", uid, sender="A\\" * 8)
    store(spool, encoded_dataset(series_files[0]), "1.2.3.4", sender="A\\" * 8)
    spool_file(spool, series_files[1])
    intake = Intake(postgresql, spool, settle_seconds=-1)
    assert intake.run_once() == len(CLAIMED) + 2
    assert list(spool.inbox()) == []
    with postgresql.reading() as session:
        quarantined = session.query(Instance).filter_by(disposition="quarantined").all()
        assert {i.sop_instance_uid for i in quarantined} == set(CLAIMED.values())
        assert all((spool.root / i.path).is_file() for i in quarantined)
        assert session.query(Instance).filter_by(disposition="accepted").count() == 2


def test_what_the_database_cannot_hold_is_recorded_by_its_name(postgresql, spool, series_files):
    with postgresql.transaction() as session:
        session.execute(text("ALTER TABLE instances ALTER calling_ae_title TYPE varchar(6)"))
    store(spool, b"junk!!", "1.2.3", sender="SEVENTH")
    spool_file(spool, series_files[0])
    assert Intake(postgresql, spool, settle_seconds=-1).run_once() == 2
    assert list(spool.inbox()) == []
    with postgresql.reading() as session:
        instance = session.query(Instance).filter_by(disposition="quarantined").one()
        assert instance.sop_instance_uid == uid_hash("1.2.3")
        assert (spool.root / instance.path).is_file()


def test_a_header_that_takes_too_long_is_quarantined(database, spool, series_files):
    with Decoder(DecoderLimits(seconds=0.0001)) as hasty:
        spool_file(spool, series_files[0])
        Intake(database, spool, settle_seconds=-1, decoder=hasty).run_once()
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.state, study.reason) == (StudyState.REFUSED, "decoder_failed")


def test_the_digest_of_a_file_is_that_of_the_spool(spool, series_files, tmp_path):
    stored = spool_file(spool, series_files[0])
    assert content_digest_of_file(stored.path) == stored.content_digest
    content = bytearray(stored.path.read_bytes())
    # One bit of the transfer syntax, of the header, of the pixels, and a torn file.
    for at in (content.index(b"1.2.840.10008.1.2"), content.index(b"ISO_IR"), 200_000):
        damaged = tmp_path / "damaged.dcm"
        damaged.write_bytes(bytes([*content[:at], content[at] ^ 1, *content[at + 1 :]]))
        with pytest.raises(RefusedError) as refused:
            check_content(damaged, stored.content_digest)
        assert refused.value.reason is Reason.SPOOL_DAMAGED
    for size in (0, 100, 1000):
        os.truncate(damaged, size)
        with pytest.raises(RefusedError):
            check_content(damaged, stored.content_digest)


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def test_a_damaged_spool_is_refused_and_mended_by_sending_again(database, spool, series_files):
    intake = Intake(database, spool, settle_seconds=-1)
    assembler = Assembler(database, SelectionPolicy())
    for path in series_files:
        spool_file(spool, path)
    intake.run_once()
    assembler.run_once()
    assert refuse_or_read(database, spool) is None
    with database.reading() as session:
        stored = [spool.root / i.path for i in session.query(Instance).order_by(Instance.id)]
    for path in stored[3:5]:
        spoil(path)
    assert refuse_or_read(database, spool) is Reason.SPOOL_DAMAGED
    assembler.run_once()
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.state, study.reason) == (StudyState.REFUSED, "spool_damaged")
    for path in series_files:
        spool_file(spool, path)
    intake.run_once()
    assembler.run_once()
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.state, study.duplicate_count) == (StudyState.QUEUED, len(series_files) - 2)
    assert refuse_or_read(database, spool) is None


def refuse_or_read(database, spool) -> Reason | None:
    """Read the series of the screening in force as a worker does; give why it is refused."""
    with database.transaction() as session:
        screening = screenings.current(session.query(Study).one())
        digests = {
            spool.root / instance.path: instance.content_digest
            for instance in studies.series_instances(
                session, screening.study_id, screening.series_instance_uid
            )
        }
        try:
            read_ct_series(list(digests), digests=digests)
        except RefusedError as error:
            claim = screenings.claim(session, screening.id, "here", 60)
            screenings.refuse(session, claim, error.reason, error.detail)
            return error.reason
    return None
