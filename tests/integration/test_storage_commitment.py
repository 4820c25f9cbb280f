"""Storage commitment with Orthanc, a PACS that answers at once, and those that do not keep."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from pydicom import Dataset, config, dcmread
from pynetdicom import AE, build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel
from support.installation import Installation
from support.quick_screening import QuickPredictor
from support.small_ct import write_small_ct

from dicom_node.commitment import CommitmentReport, StoredReference, read_report
from dicom_node.config import CommitmentMethod, DimseDestination, ListenerConfig
from dicom_node.errors import CommitmentReportError, PeerNotReadyError, PeerUnavailableError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.peers.commitment import request_commitment
from dicom_node.receiving.commitment_reports import FOLDER, MAXIMUM_WAITING, CommitmentReports
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from worker import dispatch
from worker.embedded.process import free_ports
from worker.lifecycle import CommitmentState, StudyState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from worker.embedded.orthanc import ThrowAwayOrthanc

TRANSACTION = "1.2.826.0.1.3680043.10.1.77"
INSTANCE = "1.2.840.10008.1.20.1.1"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    """Our listener, where reports come in."""
    config = ListenerConfig(
        ae_title="LUNGWATCH",
        host="127.0.0.1",
        port=free_ports(1)[0],
        spool_dir=tmp_path / "data" / "spool",
        allowed_calling_ae_titles=frozenset({"ORTHANC", "PACS"}),
        minimum_free_bytes=0,
    )
    listener = Listener(config, Spool(config.spool_dir))
    listener.start()
    yield listener
    listener.stop(timeout=5)


def reports(tmp_path: Path, count: int = 1) -> list[CommitmentReport]:
    """The reports that came to the listener, once there are so many."""
    folder = CommitmentReports(tmp_path / "data" / "spool")
    deadline = time.monotonic() + 20
    while len(found := list(folder.waiting())) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    for path, _ in found:
        folder.drop(path)
    return [report for _, report in found]


def destination(port: int, ae_title: str = "ORTHANC") -> DimseDestination:
    return DimseDestination(
        name="pacs",
        ae_title=ae_title,
        host="127.0.0.1",
        port=port,
        calling_ae_title="LUNGWATCH",
        connect_timeout=3,
        response_timeout=10,
        commitment=CommitmentMethod.STORAGE_COMMITMENT,
    )


def reference(path: Path) -> StoredReference:
    ds = dcmread(path, stop_before_pixels=True)
    return StoredReference(
        str(ds.SOPClassUID),
        str(ds.SOPInstanceUID),
        str(ds.SeriesInstanceUID),
        str(ds.StudyInstanceUID),
    )


@pytest.fixture
def objects(data_dir: Path) -> list[Path]:
    folder = data_dir / "odd" / "seg-sr-refs"
    return [folder / "dcmqi-liver-seg.dcm", folder / "highdicom_sr_document.dcm"]


def test_orthanc_commits_what_it_has_and_names_what_it_has_not(
    listener: Listener,
    start_orthanc: Callable[..., ThrowAwayOrthanc],
    objects: list[Path],
    tmp_path: Path,
) -> None:
    orthanc = start_orthanc(modalities={"lungwatch": ("LUNGWATCH", "127.0.0.1", listener.port)})
    there = destination(orthanc.dicom_port)
    stored, never_sent = map(reference, objects)
    content = OutgoingObject(stored.sop_class_uid, stored.sop_instance_uid, objects[0])
    assert open_peer(there).store([content])[0].stored

    assert open_peer(there).find([stored, never_sent]) == [True, False]
    assert request_commitment(there, TRANSACTION, [stored, never_sent]) == []
    (report,) = reports(tmp_path)
    assert report.transaction_uid == TRANSACTION
    assert report.committed == (stored.sop_instance_uid,)
    assert report.failed == ((never_sent.sop_instance_uid, "0x0112 no such object instance"),)


def test_a_result_is_removed_here_once_orthanc_promised_to_keep_it_and_never_before(
    listener: Listener,
    start_orthanc: Callable[..., ThrowAwayOrthanc],
    tmp_path: Path,
) -> None:
    orthanc = start_orthanc(modalities={"lungwatch": ("LUNGWATCH", "127.0.0.1", listener.port)})
    site = Installation(
        tmp_path / "data",
        destinations=(
            f"dimse://ORTHANC@127.0.0.1:{orthanc.dicom_port}?commitment=storage_commitment"
        ),
        minimum_slices=3,
        minimum_coverage_mm=1,
        retention_days=1e-10,
        retention_free_mb=0,
    )
    committer = dispatch.committer(site.settings, site.database)
    ((_, ask),) = committer.rounds()
    retention = dispatch.retention(site.settings, site.database)

    def hear() -> None:
        deadline = time.monotonic() + 20
        while not committer.take_reports() and time.monotonic() < deadline:
            time.sleep(0.05)

    site.receive(write_small_ct(tmp_path / "ct"))
    site.screen(QuickPredictor())
    site.deliver()
    assert len(orthanc.instances()) == 3
    assert retention.run_once() == 0, "delivered is not promised"

    (report,) = orthanc.instances(modality="SR")
    orthanc.delete(f"/instances/{report}")
    assert ask() == 3
    hear()
    study = site.study()
    assert (study.state, study.reason) == (StudyState.DELIVERING, "not_committed")
    assert retention.run_once() == 0

    time.sleep(0.01)
    site.deliver()
    assert ask() == 1
    hear()
    study = site.study()
    assert study.state is StudyState.COMPLETED
    assert {d.commitment for d in study.screenings[0].deliveries} == {CommitmentState.COMMITTED}
    assert len(orthanc.instances(modality="SR")) == 1
    assert retention.run_once() == 1


def test_an_orthanc_that_does_not_know_us_is_named_with_the_way_out(
    orthanc: ThrowAwayOrthanc, objects: list[Path]
) -> None:
    with pytest.raises(PeerUnavailableError, match="has to know our AE title"):
        request_commitment(destination(orthanc.dicom_port), TRANSACTION, [reference(objects[0])])


def report_of(committed: list[str], failed: list[str]) -> Dataset:
    report = Dataset()
    report.TransactionUID = TRANSACTION
    for name, uids in (("ReferencedSOPSequence", committed), ("FailedSOPSequence", failed)):
        items = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", uid
            if name.startswith("Failed"):
                item.FailureReason = 0x0112
            items.append(item)
        setattr(report, name, items)
    return report


def test_a_pacs_without_storage_commitment_is_named_with_the_way_out() -> None:
    ae = AE(ae_title="PACS")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    try:
        there = destination(server.server_address[1], "PACS")
        wanted = StoredReference("1.2", "1.2.3", "1.5", "1.6")
        with pytest.raises(PeerNotReadyError, match="commitment=query"):
            request_commitment(there, TRANSACTION, [wanted])
        with pytest.raises(PeerNotReadyError, match="answers no query"):
            open_peer(there).find([wanted])
    finally:
        server.shutdown()


def test_a_report_on_the_association_of_the_request_is_taken() -> None:
    """As PACS do that decide at once (PS3.4 section J.3.3)."""

    ae = AE(ae_title="PACS")
    ae.add_supported_context(StorageCommitmentPushModel)
    answers = []

    def report_soon(event: evt.Event) -> tuple[int, None]:
        def send() -> None:
            time.sleep(0.2)
            status, _ = event.assoc.send_n_event_report(
                report_of(["1.2.3"], ["1.2.4"]), 2, StorageCommitmentPushModel, INSTANCE
            )
            answers.append(status.Status)

        threading.Thread(target=send).start()
        return 0x0000, None

    server = ae.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_N_ACTION, report_soon)]
    )
    try:
        wanted = [StoredReference("1.2", uid, "1.5", "1.6") for uid in ("1.2.3", "1.2.4")]
        port = server.server_address[1]
        (report,) = request_commitment(destination(port, "PACS"), TRANSACTION, wanted)
    finally:
        server.shutdown()
    assert report.committed == ("1.2.3",)
    assert report.failed == (("1.2.4", "0x0112 no such object instance"),)
    assert answers == [0x0000]


def send_report(port: int, report: Dataset | None, *, role: bool = True) -> int | None:
    """Report as a PACS on an association of its own; the status it is answered."""
    ae = AE(ae_title="PACS")
    extended = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
    link = ae.associate(
        "127.0.0.1",
        port,
        contexts=[build_context(StorageCommitmentPushModel)],
        ae_title="LUNGWATCH",
        ext_neg=extended,
    )
    assert link.is_established
    status, _ = link.send_n_event_report(report, 1, StorageCommitmentPushModel, INSTANCE)
    link.release()
    return status.get("Status")


def test_a_report_is_on_disk_when_it_is_answered(listener: Listener, tmp_path: Path) -> None:
    assert send_report(listener.port, report_of(["1.2.3"], [])) == 0x0000
    (waiting,) = (tmp_path / "data" / "spool" / "commitments").glob("*.json")
    assert waiting.parent.stat().st_mode & 0o077 == 0
    assert reports(tmp_path) == [CommitmentReport(TRANSACTION, ("1.2.3",), ())]


def test_a_report_that_says_nothing_is_refused(listener: Listener, tmp_path: Path) -> None:
    nothing = Dataset()
    nothing.ReferencedSOPSequence = []
    assert send_report(listener.port, nothing) == 0x0115
    assert list(CommitmentReports(tmp_path / "data" / "spool").waiting()) == []


def test_a_spool_that_takes_no_report_answers_no_success(
    listener: Listener, tmp_path: Path
) -> None:
    assert send_report(listener.port, report_of(["1.2.3"], [])) == 0x0000
    for number in range(MAXIMUM_WAITING - 1):
        (tmp_path / "data" / "spool" / FOLDER / f"{number}.part").touch()
    assert send_report(listener.port, report_of(["1.2.4"], [])) == 0x0110
    assert len(reports(tmp_path)) == 1


def test_a_report_leaves_the_disk_what_objects_have_to_leave_it(tmp_path: Path) -> None:
    spool_dir = tmp_path / "spool"
    spool_dir.mkdir()
    with pytest.raises(OSError, match="would be free"):
        CommitmentReports(spool_dir, 2**60).write(CommitmentReport(TRANSACTION, (), ()))
    assert list((spool_dir / FOLDER).iterdir()) == []


@pytest.mark.parametrize("uid", ["", "1.2\0", "'; --", "1" * 65, ["1.2", "1.3"]])
def test_what_is_no_uid_goes_no_further(uid: object) -> None:
    report = report_of(["1.2.3"], [])
    with config.disable_value_validation():
        report.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = uid
        with pytest.raises(CommitmentReportError):
            read_report(report)


def test_a_torn_report_is_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "spool" / "commitments"
    folder.mkdir(parents=True)
    (folder / "torn.json").write_text('{"transaction_uid": "1.2"')
    assert list(CommitmentReports(tmp_path / "data" / "spool").waiting()) == []
    assert list(folder.iterdir()) == []
