"""The listener on loopback: real senders, real files, real refusals."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, _config
from pynetdicom.sop_class import Verification
from support.services import require

from dicom_node.config import ListenerConfig
from dicom_node.contexts import CT_TRANSFER_SYNTAXES
from dicom_node.errors import ConfigurationError
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool, content_digest
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pynetdicom.association import Association
    from support.storescu import Storescu

    from worker.embedded.orthanc import ThrowAwayOrthanc

AE_TITLE = "LUNGWATCH"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def start_listener(spool: Spool) -> Iterator[Callable[..., Listener]]:
    """Start a listener on a free port: call it with `ListenerConfig`'s keyword arguments."""
    started: list[Listener] = []

    def start(on_received: Callable[[], None] | None = None, **changes: object) -> Listener:
        settings = {
            "ae_title": AE_TITLE,
            "host": "127.0.0.1",
            "port": 0,
            "spool_dir": spool.root,
            "allowed_calling_ae_titles": frozenset({"STORESCU", "ORTHANC", "ECHOSCU"}),
            "minimum_free_bytes": 0,
        }
        listener = Listener(ListenerConfig(**settings | changes), spool, on_received)
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop(timeout=2)


@pytest.fixture
def listener(start_listener: Callable[..., Listener]) -> Listener:
    return start_listener()


@contextlib.contextmanager
def association(port: int, *sop_classes: str, calling: str = "STORESCU") -> Iterator[Association]:
    ae = AE(ae_title=calling)
    for sop_class in sop_classes or (CTImageStorage,):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    link = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
    assert link.is_established
    try:
        yield link
    finally:
        if link.is_established:
            link.release()


@pytest.fixture
def raw_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a file whose data set part is any bytes; pynetdicom sends it without a look."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)

    def make(content: bytes, uid: str = "1.2.3.4") -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / f"{uid}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        with path.open("ab") as file:
            file.write(content)
        return path

    return make


def dataset_part(path: Path) -> bytes:
    """What follows the file meta information (PS3.10 section 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


def reasons(spool: Spool) -> set[str]:
    return {note.reason for _, note in spool.refusals()}


def orphans(spool: Spool) -> list[Path]:
    return list((spool.root / "incoming").iterdir())


def echo(port: int) -> float:
    """Seconds an association with one C-ECHO takes."""
    started = time.monotonic()
    with association(port, Verification) as link:
        assert link.send_c_echo().Status == 0
    return time.monotonic() - started


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


def test_an_instance_over_the_limit_is_refused_and_the_next_is_not(
    start_listener: Callable[..., Listener], raw_file: Callable[..., Path], spool: Spool
) -> None:
    listener = start_listener(maximum_instance_bytes=100_000)
    sizes = {"1.2.1": 100_001, "1.2.2": 5_000_000, "1.2.3": 100_000}
    paths = [raw_file(bytes(size), uid) for uid, size in sizes.items()]
    with association(listener.port) as link:
        statuses = [link.send_c_store(path).Status for path in paths]
    assert statuses == [0xC000, 0xC000, 0x0000]
    assert reasons(spool) == {"too_large"}
    assert len(list(spool.inbox())) == 1


def test_the_watermark_refuses_and_recovers(
    start_listener: Callable[..., Listener],
    raw_file: Callable[..., Path],
    spool: Spool,
    tmp_path: Path,
) -> None:
    spool.prepare()
    ballast_bytes = 512 << 20
    watermark = spool.free_bytes() - ballast_bytes // 2
    listener = start_listener(minimum_free_bytes=watermark)
    image = raw_file(b"pixels")
    with association(listener.port) as link, (tmp_path / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, ballast_bytes)
        assert link.send_c_store(image).Status == 0xA700
        assert list(spool.inbox()) == []
        assert reasons(spool) == {"out_of_resources"}
        ballast.truncate(0)
        os.fsync(ballast.fileno())
        assert link.send_c_store(image).Status == 0x0000
    assert len(list(spool.inbox())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: it takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full_is_never_a_success(
    small_disk: Path, raw_file: Callable[..., Path]
) -> None:
    spool = Spool(small_disk / "spool")
    config = ListenerConfig(
        ae_title=AE_TITLE,
        host="127.0.0.1",
        port=0,
        spool_dir=spool.root,
        allowed_calling_ae_titles=frozenset({"STORESCU"}),
        minimum_free_bytes=0,
    )
    listener = Listener(config, spool)
    listener.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((8 << 20) - (1 << 20)))
    try:
        with association(listener.port) as link:
            statuses = [
                link.send_c_store(raw_file(os.urandom(400_000), f"1.2.{number}")).Status
                for number in range(6)
            ]
            stored = statuses.count(0)
            assert 0 < stored < 6
            assert set(statuses) == {0x0000, 0xA700}
            assert len(list(spool.inbox())) == stored
            assert orphans(spool) == []
            ballast.unlink()
            assert link.send_c_store(raw_file(os.urandom(400_000), "1.3")).Status == 0
    finally:
        listener.stop(timeout=2)


def test_half_sent_data_and_aborts_leave_nothing_and_stop_nobody(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    with association(listener.port) as bystander:
        for cut in ("close", "abort", "reset"):
            with association(listener.port) as link:
                raw = link.dul.socket.socket
                # A P-DATA-TF PDU that promises 60,000 bytes and holds 6,000.
                raw.sendall(struct.pack(">BBL", 4, 0, 60_000) + bytes(6_000))
                if cut == "abort":
                    link.abort()
                elif cut == "reset":
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    raw.close()
                else:
                    raw.shutdown(socket.SHUT_RDWR)
        assert bystander.send_c_store(raw_file(b"pixels")).Status == 0
    assert echo(listener.port) < 2
    assert len(list(spool.inbox())) == 1
    assert orphans(spool) == []


def test_a_pdu_that_declares_four_gigabytes_is_cut_off(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(1000))
        connection.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert echo(listener.port) < 2


def test_idle_connections_do_not_keep_others_waiting(listener: Listener) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        assert echo(listener.port) < 2


def test_one_association_too_many_is_told_to_come_back(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_associations=1)
    with association(listener.port):
        ae = AE(ae_title="STORESCU")
        ae.add_requested_context(CTImageStorage)
        second = ae.associate("127.0.0.1", listener.port, ae_title=AE_TITLE)
        assert second.is_rejected
        assert second.acceptor.primitive.result == 2
    assert reasons(spool) == {"too_many_associations"}


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


def test_the_intake_is_woken_and_its_trouble_is_not_the_senders(
    start_listener: Callable[..., Listener], raw_file: Callable[..., Path], spool: Spool
) -> None:
    found: list[int] = []

    def wake() -> None:
        found.append(len(list(spool.inbox())))
        msg = "the intake is down"
        raise RuntimeError(msg)

    listener = start_listener(on_received=wake)
    with association(listener.port) as link:
        assert link.send_c_store(raw_file(b"one", "1.2.1")).Status == 0
        assert link.send_c_store(raw_file(b"two", "1.2.2")).Status == 0
    assert found == [1, 2]


def test_stop_lets_a_running_association_finish(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    with association(listener.port) as link:
        stopping = threading.Thread(target=listener.stop, args=(10,))
        stopping.start()
        time.sleep(0.7)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", link.acceptor.port), timeout=1)
        assert link.send_c_store(raw_file(b"pixels")).Status == 0
    stopping.join(timeout=5)
    assert not stopping.is_alive()
    assert len(list(spool.inbox())) == 1


def test_stop_does_not_wait_for_ever(listener: Listener) -> None:
    with association(listener.port) as link:
        started = time.monotonic()
        listener.stop(timeout=0.5)
        assert time.monotonic() - started < 5
        for _ in range(100):
            if link.is_aborted:
                break
            time.sleep(0.05)
        assert link.is_aborted


def test_a_port_that_is_taken(start_listener: Callable[..., Listener], listener: Listener) -> None:
    with pytest.raises(ConfigurationError, match=f"port {listener.port} cannot be bound"):
        start_listener(port=listener.port)


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
