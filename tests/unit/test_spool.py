"""The spool's promises, but for its durability, on a real file system."""

from __future__ import annotations

import fcntl
import hashlib
import json
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import SpoolError
from dicom_node.receiving.spool import Spool, SpooledInstance, content_digest, uid_hash

if TYPE_CHECKING:
    from pathlib import Path

STUDY = "1.2.826.0.1.3680043.8.498.1"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    return spool


def store(spool: Spool, uid: str = "1.2.3", dataset: bytes = b"data set") -> SpooledInstance:
    return spool.store(
        dataset,
        sop_class_uid=CTImageStorage,
        sop_instance_uid=uid,
        transfer_syntax_uid=ImplicitVRLittleEndian,
        calling_ae_title="MODALITY",
        called_ae_title="LUNGWATCH",
    )


def files(spool: Spool) -> list[str]:
    return sorted(
        str(path.relative_to(spool.root)) for path in spool.root.rglob("*") if path.is_file()
    )


def test_the_file_holds_the_very_bytes_and_where_they_came_from(spool: Spool) -> None:
    instance = store(spool, dataset=b"\x08\x00\x60\x00\x02\x00\x00\x00CT")
    assert instance.path.read_bytes().endswith(b"\x08\x00\x60\x00\x02\x00\x00\x00CT")
    dataset = dcmread(instance.path)
    assert dataset.Modality == "CT"
    meta = dataset.file_meta
    assert meta.MediaStorageSOPClassUID == CTImageStorage
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert meta.SourceApplicationEntityTitle == "MODALITY"
    assert meta.SendingApplicationEntityTitle == "MODALITY"
    assert meta.ReceivingApplicationEntityTitle == "LUNGWATCH"


def test_the_digest_is_of_transfer_syntax_and_data_set_alone() -> None:
    expected = hashlib.sha256(b"1.2.840.10008.1.2\0data set").hexdigest()
    assert content_digest(b"data set", ImplicitVRLittleEndian) == expected
    assert content_digest(b"data set", ExplicitVRLittleEndian) != expected
    assert content_digest(b"data Set", ImplicitVRLittleEndian) != expected


def test_the_name_tells_the_digest(spool: Spool) -> None:
    instance = store(spool)
    assert spool.digest_of(instance.path) == instance.content_digest


def test_an_exact_duplicate_changes_nothing(spool: Spool) -> None:
    first = store(spool)
    before = first.path.stat()
    second = store(spool)
    assert second.path == first.path
    after = first.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(files(spool)) == 1


def test_two_contents_under_one_uid_live_side_by_side(spool: Spool) -> None:
    first, second = store(spool, dataset=b"one"), store(spool, dataset=b"two")
    assert list(spool.inbox()) == [first.path, second.path]
    filed = [
        spool.file_into_study(each.path, STUDY, "1.2.3", each.content_digest)
        for each in (first, second)
    ]
    assert len(set(filed)) == 2
    assert all(path.exists() for path in filed)


def test_the_inbox_is_in_order_of_receipt(spool: Spool) -> None:
    stored = [store(spool, uid=f"1.2.{number}").path for number in range(50)]
    assert list(spool.inbox()) == stored


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(8)))
def test_the_inbox_is_in_order_of_receipt_whatever_was_filed(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    spool.prepare()
    stored = [store(spool, uid=f"1.2.{number}") for number in order]
    for number, each in zip(order, stored, strict=True):
        if number % 2:
            spool.file_into_study(each.path, STUDY, f"1.2.{number}", each.content_digest)
    left = [each.path for number, each in zip(order, stored, strict=True) if not number % 2]
    assert list(spool.inbox()) == left


def test_filing_twice_is_filing_once(spool: Spool) -> None:
    instance = store(spool)
    arguments = (instance.path, STUDY, "1.2.3", instance.content_digest)
    filed = spool.file_into_study(*arguments)
    assert filed == spool.study_path(STUDY, "1.2.3", instance.content_digest)
    assert filed.parent == spool.study_folder(STUDY)
    assert spool.file_into_study(*arguments) == filed
    assert files(spool) == [str(filed.relative_to(spool.root))]


def test_an_instance_that_comes_again_after_filing_is_filed_onto_itself(spool: Spool) -> None:
    first = store(spool)
    filed = spool.file_into_study(first.path, STUDY, "1.2.3", first.content_digest)
    again = store(spool)
    assert spool.file_into_study(again.path, STUDY, "1.2.3", again.content_digest) == filed
    assert len(files(spool)) == 1


def test_filing_what_is_nowhere_is_an_error(spool: Spool) -> None:
    with pytest.raises(SpoolError, match="neither"):
        spool.file_into_study(spool.root / "inbox" / "gone.dcm", STUDY, "1.2.3", "0" * 64)


def test_quarantine_keeps_the_file_and_the_reason(spool: Spool) -> None:
    instance = store(spool)
    path = spool.quarantine(instance.path, "not_dicom")
    assert path.parent.name == "quarantine"
    assert json.loads(path.with_suffix(".json").read_text())["reason"] == "not_dicom"
    assert spool.quarantine(instance.path, "not_dicom") == path
    assert list(spool.inbox()) == []


def test_discard_is_idempotent(spool: Spool) -> None:
    instance = store(spool)
    spool.discard(instance.path)
    spool.discard(instance.path)
    assert files(spool) == []


@pytest.mark.filterwarnings("ignore:.*VR UI")
@pytest.mark.parametrize(
    "uid", ["../../../etc/passwd", "/etc/passwd", "1.2\x00.3", "..", "é" * 200, "1.2.3/.."]
)
def test_no_uid_reaches_a_path(spool: Spool, uid: str) -> None:
    instance = store(spool, uid=uid)
    filed = spool.file_into_study(instance.path, uid, uid, instance.content_digest)
    assert filed.parent.parent == spool.root / "studies"
    assert filed.parent.name == uid_hash(uid)
    assert len(files(spool)) == 1


def test_the_janitor_takes_orphans_and_leaves_the_living(spool: Spool) -> None:
    instance = store(spool)
    orphan = spool.root / "incoming" / "left-by-a-killed-listener.part"
    orphan.write_bytes(b"half of a data set")
    with (spool.root / "incoming" / "being-written.part").open("xb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        assert Spool(spool.root).prepare() == 1
        assert files(spool) == sorted(
            ["inbox/" + instance.path.name, "incoming/being-written.part"]
        )
    assert Spool(spool.root).prepare() == 1
    assert list(spool.inbox()) == [instance.path]


def test_a_spool_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / "file").prepare()


def test_a_failed_store_leaves_nothing_behind(spool: Spool) -> None:
    (spool.root / "inbox").rmdir()
    with pytest.raises(SpoolError, match="could not store"):
        store(spool)
    assert files(spool) == []


def test_threads_that_store_the_same_and_others_at_once(spool: Spool) -> None:
    content = [bytes([number]) * 20_000 for number in range(10)]

    def worker() -> None:
        for number in range(40):
            store(spool, uid=f"1.2.{number % 10}", dataset=content[number % 10])

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_bytes()[-20_000:] for path in spool.inbox()} == set(content)
    assert len(files(spool)) == 10


def test_free_bytes_is_what_the_file_system_says(spool: Spool) -> None:
    assert spool.free_bytes() > 0
    with pytest.raises(SpoolError, match="cannot be reached"):
        Spool(spool.root / "gone").free_bytes()
