"""The listener on loopback: real senders, real files, real refusals."""

from __future__ import annotations

import os
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from support.listening import AE_TITLE, association, dataset_part, orphans, reasons
from support.services import require

from dicom_node.contexts import CT_TRANSFER_SYNTAXES
from dicom_node.receiving.spool import content_digest
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.storescu import Storescu

    from dicom_node.receiving.listener import Listener
    from dicom_node.receiving.spool import Spool
    from worker.embedded.orthanc import ThrowAwayOrthanc


def test_echo_by_dcmtk(listener: Listener) -> None:
    command = [require("echoscu", "dcmtk"), "-aec", AE_TITLE, "127.0.0.1", str(listener.port)]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize(
    ("series", "option"),
    [
        ("covidctmd-P001", "--propose-lossless"),
        ("lidc-idri-0001", "--propose-little"),
        ("lung_dx-A0001-s3", "--propose-implicit"),
    ],
)
def test_a_real_series_arrives_whole_and_in_order(
    series: str, option: str, data_dir: Path, listener: Listener, storescu: Storescu, spool: Spool
) -> None:
    paths = sorted((data_dir / "series" / series).rglob("*.dcm"))
    storescu.send(*paths, port=listener.port, called=AE_TITLE, options=(option,))
    received = list(spool.inbox())
    assert len(received) == len(paths)
    for arrived, path in zip(map(dcmread, received), paths, strict=True):
        original = dcmread(path)
        assert arrived.SOPInstanceUID == original.SOPInstanceUID
        assert arrived.PixelData == original.PixelData
        assert arrived.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert orphans(spool) == []


def profile(folder: Path, *syntaxes: str) -> tuple[str | Path, ...]:
    """Make DCMTK propose or accept CT images in these transfer syntaxes alone."""
    listed = "".join(f"TransferSyntax{n} = {uid}\n" for n, uid in enumerate(syntaxes, start=1))
    path = folder / f"{len(syntaxes)}-syntaxes.cfg"
    path.write_text(
        f"[[TransferSyntaxes]]\n[These]\n{listed}[[PresentationContexts]]\n[Ct]\n"
        "PresentationContext1 = CTImageStorage\\These\n"
        "PresentationContext2 = VerificationSOPClass\\These\n"
        "[[Profiles]]\n[Only]\nPresentationContexts = Ct\n"
    )
    return ("-xf", path, "Only")


def send_in(syntax: str, path: Path, port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Send a CT image in its own transfer syntax and no other."""
    command = [require("storescu", "dcmtk"), *profile(folder, syntax), "-aec", AE_TITLE]
    return subprocess.run(
        [*command, "127.0.0.1", str(port), path],
        env={**os.environ, "TCP_NODELAY": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's storescp, writing down bit by bit what it was sent."""
    (port,) = free_ports(1)
    folder = tmp_path / "judge"
    folder.mkdir()
    echoscu = [require("echoscu", "dcmtk"), "127.0.0.1", str(port)]
    command = [require("storescp", "dcmtk"), "+B", "-od", folder]
    # With -xf it accepts JPEG process 14, for which it knows no option.
    accepted = profile(tmp_path, *CT_TRANSFER_SYNTAXES)
    with ServiceProcess("storescp", tmp_path / "storescp.log") as service:
        service.start(
            [*command, *accepted, str(port)],
            lambda: subprocess.run(echoscu, capture_output=True, check=False).returncode == 0,
        )
        yield port, folder


def test_each_transfer_syntax_is_received_bit_by_bit_or_refused_with_a_reason(
    data_dir: Path, listener: Listener, spool: Spool, judge: tuple[int, Path], tmp_path: Path
) -> None:
    judge_port, judge_folder = judge
    received, refused = set(), set()
    for path in sorted((data_dir / "odd" / "ts-matrix-ge-slice").glob("*.dcm")):
        syntax = str(dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID)
        ours = send_in(syntax, path, listener.port, tmp_path)
        if syntax not in CT_TRANSFER_SYNTAXES:
            assert ours.returncode != 0
            refused.add(syntax)
            continue
        assert ours.returncode == 0, ours.stderr
        theirs = send_in(syntax, path, judge_port, tmp_path)
        assert theirs.returncode == 0, theirs.stderr
        (judged,) = judge_folder.iterdir()
        digest = content_digest(dataset_part(judged), syntax)
        (instance,) = [path for path in spool.inbox() if spool.digest_of(path) == digest]
        assert dataset_part(instance) == dataset_part(judged)
        assert dcmread(instance).file_meta.TransferSyntaxUID == syntax
        received.add(syntax)
        judged.unlink()
    assert received == set(CT_TRANSFER_SYNTAXES)
    assert len(refused) == 8
    noted = {syntax for _, note in spool.refusals() for syntax in note.transfer_syntax_uids}
    assert noted == refused
    assert reasons(spool) == {"unsupported_transfer_syntax"}


def test_who_calls_whom_is_checked_and_noted(
    data_dir: Path, listener: Listener, storescu: Storescu, spool: Spool
) -> None:
    image = data_dir / "odd" / "ts-matrix-ge-slice" / "CTImage.dcm"
    wrong_called = storescu.send(image, port=listener.port, called="SOMEONE", check=False)
    assert "Called AE Title Not Recognized" in wrong_called.stdout
    impostor = storescu.send(
        image, port=listener.port, called=AE_TITLE, calling="IMPOSTOR", check=False
    )
    assert "Calling AE Title Not Recognized" in impostor.stdout
    notes = {note.reason: note for _, note in spool.refusals()}
    assert set(notes) == {"called_ae_not_recognised", "calling_ae_not_allowed"}
    assert notes["called_ae_not_recognised"].called_ae_title == "SOMEONE"
    assert notes["calling_ae_not_allowed"].calling_ae_title == "IMPOSTOR"
    assert notes["calling_ae_not_allowed"].peer_address == "127.0.0.1"
    assert list(spool.inbox()) == []


def test_the_star_serves_everybody(
    start_listener: Callable[..., Listener],
    data_dir: Path,
    storescu: Storescu,
    spool: Spool,
) -> None:
    listener = start_listener(allowed_calling_ae_titles=frozenset({"*"}))
    image = data_dir / "odd" / "ts-matrix-ge-slice" / "CTImage.dcm"
    storescu.send(image, port=listener.port, called=AE_TITLE, calling="ANYBODY")
    (path,) = spool.inbox()
    assert dcmread(path).file_meta.SendingApplicationEntityTitle == "ANYBODY"


def test_bytes_that_are_no_data_set_are_stored_for_the_intake_to_judge(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    garbage = os.urandom(300_000)
    with association(listener.port) as link:
        assert link.send_c_store(raw_file(garbage)).Status == 0
    (path,) = spool.inbox()
    assert dataset_part(path) == garbage


def test_sent_twice_is_stored_once_and_answered_twice(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    path = raw_file(b"the same")
    with association(listener.port) as link:
        assert [link.send_c_store(path).Status for _ in range(2)] == [0, 0]
    assert len(list(spool.inbox())) == 1


def test_a_class_that_is_not_accepted_is_noted_and_the_others_go_on(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    unknown = "1.2.826.0.1.3680043.8.498.77"
    with association(listener.port, CTImageStorage, unknown) as link:
        assert link.send_c_store(raw_file(b"pixels")).Status == 0
    ((_, note),) = spool.refusals()
    assert (note.reason, note.sop_class_uid) == ("sop_class_not_supported", unknown)
    assert note.transfer_syntax_uids == (ExplicitVRLittleEndian,)


def test_four_senders_at_once(
    data_dir: Path, listener: Listener, storescu: Storescu, spool: Spool
) -> None:
    folder = data_dir / "series" / "lung_dx-A0001-s3"
    files = sorted(folder.rglob("*.dcm"))
    shares = [files[start::4] for start in range(4)]
    senders = [
        threading.Thread(
            target=storescu.send,
            args=share,
            kwargs={"port": listener.port, "called": AE_TITLE, "options": ()},
        )
        for share in shares
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(list(spool.inbox())) == len(files)


def test_orthanc_routes_a_mixed_study_whole(
    start_orthanc: Callable[..., ThrowAwayOrthanc],
    data_dir: Path,
    listener: Listener,
    spool: Spool,
) -> None:
    """One refused SOP class, and Orthanc would send nothing of the job."""
    orthanc = start_orthanc(modalities={"node": (AE_TITLE, "127.0.0.1", listener.port)})
    folder = data_dir / "odd"
    paths = [
        *sorted((folder / "seg-sr-refs").glob("*.dcm")),
        folder / "ts-matrix-ge-slice" / "CTImage.dcm",
        folder / "enhanced-multiframe" / "legacy-converted-enhanced-ct.dcm",
    ]
    instances = sorted({orthanc.upload(path) for path in paths})
    orthanc.post("/modalities/node/store", {"Resources": instances, "Synchronous": True})
    classes = {dcmread(path, stop_before_pixels=True).SOPClassUID for path in spool.inbox()}
    assert len(list(spool.inbox())) == len(instances)
    assert len(classes) >= 5
    assert SecondaryCaptureImageStorage not in classes
    sender = dcmread(next(spool.inbox()), stop_before_pixels=True)
    assert sender.file_meta.SourceApplicationEntityTitle == "ORTHANC"
