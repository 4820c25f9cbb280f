"""Peers against real ones: DCMTK's storescp, Orthanc by DICOM and by STOW-RS, and nobody."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from support.raw_association import A_ASSOCIATE_RJ, pdu
from support.services import require

from dicom_node.config import DicomWebDestination, DimseDestination
from dicom_node.errors import PeerNotReadyError, PeerRefusedError, PeerUnavailableError, SpoolError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.status import StoreVerdict
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pynetdicom.events import Event

    from worker.embedded.orthanc import ThrowAwayOrthanc


def outgoing(path: Path) -> OutgoingObject:
    dataset = dcmread(path, stop_before_pixels=True)
    return OutgoingObject(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), path)


@pytest.fixture
def objects(data_dir: Path) -> list[OutgoingObject]:
    """A SEG and an SR of other software, in Explicit VR Little Endian as ours are."""
    folder = data_dir / "odd" / "seg-sr-refs"
    return [
        outgoing(folder / "dcmqi-liver-seg.dcm"),
        outgoing(folder / "highdicom_sr_document.dcm"),
    ]


def dimse(port: int, **changes: object) -> DimseDestination:
    settings = {
        "name": "pacs",
        "ae_title": "ORTHANC",
        "host": "127.0.0.1",
        "port": port,
        "calling_ae_title": "LUNGWATCH",
        "connect_timeout": 3.0,
        "response_timeout": 20.0,
    }
    return DimseDestination(**(settings | changes))


def encoded_dataset(path: Path) -> bytes:
    """The data set part of a file: what follows the file meta information."""
    content = path.read_bytes()
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's storescp, writing what it receives bit by bit."""
    (port,) = free_ports(1)
    folder = tmp_path / "storescp"
    folder.mkdir()
    echoscu = require("echoscu", "dcmtk")

    def ready() -> bool:
        return (
            subprocess.run([echoscu, "127.0.0.1", str(port)], capture_output=True, check=False)
        ).returncode == 0

    with ServiceProcess("storescp", tmp_path / "storescp.log") as service:
        command = [require("storescp", "dcmtk"), "+B", "-pm", "-od", folder, str(port)]
        service.start(command, ready, environment={"TCP_NODELAY": "1"})
        yield port, folder


def test_storescp_gets_the_very_bytes(
    storescp: tuple[int, Path], objects: list[OutgoingObject]
) -> None:
    port, folder = storescp
    peer = open_peer(dimse(port))
    peer.echo()
    outcomes = peer.store(objects)
    assert [outcome.verdict for outcome in outcomes] == [StoreVerdict.STORED] * 2
    assert [outcome.sop_instance_uid for outcome in outcomes] == [
        item.sop_instance_uid for item in objects
    ]
    received = {dcmread(path).SOPInstanceUID: path for path in folder.iterdir()}
    for item in objects:
        stored = received[item.sop_instance_uid]
        assert dcmread(stored).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert encoded_dataset(stored) == encoded_dataset(item.content)


def test_content_may_be_given_as_bytes(
    storescp: tuple[int, Path], objects: list[OutgoingObject]
) -> None:
    port, folder = storescp
    item = objects[0]
    given = OutgoingObject(item.sop_class_uid, item.sop_instance_uid, item.content.read_bytes())
    assert open_peer(dimse(port)).store([given])[0].stored
    (stored,) = folder.iterdir()
    assert encoded_dataset(stored) == encoded_dataset(item.content)


def test_orthanc_by_dicom_and_by_stow(
    orthanc: ThrowAwayOrthanc, objects: list[OutgoingObject]
) -> None:
    by_dicom = open_peer(dimse(orthanc.dicom_port))
    by_dicom.echo()
    assert all(outcome.stored for outcome in by_dicom.store(objects[:1]))

    destination = DicomWebDestination(name="stow", url=orthanc.dicomweb_url)
    by_stow = open_peer(destination)
    by_stow.echo()
    assert all(outcome.stored for outcome in by_stow.store(objects))
    assert len(orthanc.instances()) == 2


@pytest.mark.parametrize("kind", ["dimse", "stow"])
def test_nobody_listens(kind: str, objects: list[OutgoingObject]) -> None:
    (port,) = free_ports(1)
    destination = (
        dimse(port)
        if kind == "dimse"
        else DicomWebDestination(name="stow", url=f"http://127.0.0.1:{port}/dicom-web")
    )
    peer = open_peer(destination)
    with pytest.raises(PeerUnavailableError, match="could not be reached"):
        peer.echo()
    with pytest.raises(PeerUnavailableError, match="could not be reached"):
        peer.store(objects)


def test_a_peer_that_comes_back_within_seconds_is_served(objects: list[OutgoingObject]) -> None:
    (port,) = free_ports(1)
    ae = AE(ae_title="ORTHANC")
    for item in objects:
        ae.add_supported_context(item.sop_class_uid, ExplicitVRLittleEndian)
    servers = []
    timer = threading.Timer(
        0.3,
        lambda: servers.append(
            ae.start_server(
                ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, lambda _: 0)]
            )
        ),
    )
    timer.start()
    try:
        assert all(outcome.stored for outcome in open_peer(dimse(port)).store(objects))
    finally:
        timer.join()
        servers[0].shutdown()


class AnsweringScp:
    """A storage SCP that answers with given statuses, in order."""

    def __init__(self, statuses: list[int | str], sop_classes: list[str]) -> None:
        self._statuses = list(statuses)
        self.received: list[tuple[str, str]] = []
        self._ae = AE(ae_title="ORTHANC")
        for sop_class in sop_classes:
            self._ae.add_supported_context(
                sop_class, [ImplicitVRLittleEndian, ExplicitVRLittleEndian]
            )
        self._ae.require_called_aet = True

    def __enter__(self) -> Self:
        self._server = self._ae.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._answer)]
        )
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _answer(self, event: Event) -> int:
        request = event.request
        self.received.append((request.AffectedSOPInstanceUID, event.context.transfer_syntax))
        status = self._statuses.pop(0)
        if status == "abort":
            event.assoc.abort()
            return 0
        if status == "silence":
            time.sleep(2)
            return 0
        return status


@pytest.mark.parametrize(
    ("status", "verdict", "stored"),
    [
        (0x0000, StoreVerdict.STORED, True),
        (0xB000, StoreVerdict.STORED_WITH_WARNING, True),
        (0xB006, StoreVerdict.STORED_WITH_WARNING, True),
        (0x0111, StoreVerdict.ALREADY_STORED, True),
        (0xA700, StoreVerdict.UNAVAILABLE, False),
        (0xA7FF, StoreVerdict.UNAVAILABLE, False),
        (0xA900, StoreVerdict.REFUSED, False),
        (0xC123, StoreVerdict.REFUSED, False),
        (0x0122, StoreVerdict.REFUSED, False),
        (0x0124, StoreVerdict.REFUSED, False),
    ],
)
def test_each_status_has_its_verdict(
    status: int, verdict: StoreVerdict, *, stored: bool, objects: list[OutgoingObject]
) -> None:
    with AnsweringScp([status, 0x0000], [item.sop_class_uid for item in objects]) as scp:
        first, second = open_peer(dimse(scp.port)).store(objects)
    assert (first.verdict, first.status, first.stored) == (verdict, status, stored)
    assert second.verdict is StoreVerdict.STORED
    if verdict is StoreVerdict.STORED:
        assert first.detail == ""
    else:
        assert f"0x{status:04X}" in first.detail


def test_a_peer_that_goes_away_between_two_objects(objects: list[OutgoingObject]) -> None:
    with AnsweringScp([0x0000, "abort"], [item.sop_class_uid for item in objects]) as scp:
        first, second = open_peer(dimse(scp.port)).store(objects)
    assert first.verdict is StoreVerdict.STORED
    assert second.verdict is StoreVerdict.UNAVAILABLE
    assert second.status is None


def test_a_peer_that_goes_away_at_once_is_asked_again(objects: list[OutgoingObject]) -> None:
    classes = [item.sop_class_uid for item in objects]
    with AnsweringScp(["abort", 0x0000, 0x0000], classes) as scp:
        outcomes = open_peer(dimse(scp.port)).store(objects)
        assert [uid for uid, _ in scp.received] == [
            objects[0].sop_instance_uid,
            objects[0].sop_instance_uid,
            objects[1].sop_instance_uid,
        ]
    assert all(outcome.stored for outcome in outcomes)


def test_a_peer_that_does_not_answer_in_time(objects: list[OutgoingObject]) -> None:
    statuses: list[int | str] = ["silence"] * 3
    with (
        AnsweringScp(statuses, [objects[0].sop_class_uid]) as scp,
        pytest.raises(PeerUnavailableError, match="before it answered"),
    ):
        open_peer(dimse(scp.port, response_timeout=0.5)).store(objects[:1])


def test_one_sop_class_that_the_peer_does_not_know(objects: list[OutgoingObject]) -> None:
    with AnsweringScp([0x0000], [objects[1].sop_class_uid]) as scp:
        first, second = open_peer(dimse(scp.port)).store(objects)
    assert first.verdict is StoreVerdict.REFUSED
    assert "presentation context" in first.detail
    assert second.verdict is StoreVerdict.STORED


def test_no_sop_class_that_the_peer_knows(objects: list[OutgoingObject]) -> None:
    with (
        AnsweringScp([], ["1.2.840.10008.5.1.4.1.1.2"]) as scp,
        pytest.raises(PeerRefusedError, match="SOP classes"),
    ):
        open_peer(dimse(scp.port)).store(objects)


def test_a_called_ae_title_that_is_not_the_peers(objects: list[OutgoingObject]) -> None:
    with (
        AnsweringScp([], [item.sop_class_uid for item in objects]) as scp,
        pytest.raises(PeerNotReadyError, match="rejected the association: Called AE title"),
    ):
        open_peer(dimse(scp.port, ae_title="SOMEONE")).store(objects)


def test_a_rejection_is_told_as_one_however_fast_it_comes(objects: list[OutgoingObject]) -> None:
    def reject(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    # Permanent; calling AE title not recognized (PS3.8 table 9-21).
                    connection.sendall(pdu(A_ASSOCIATE_RJ, bytes([0, 1, 1, 3])))
                    while connection.recv(4096):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=reject, args=(server,), daemon=True).start()
        peer = open_peer(dimse(server.getsockname()[1], connect_timeout=60.0))
        for _ in range(100):
            with pytest.raises(PeerNotReadyError, match="rejected the association: Calling AE"):
                peer.store(objects[:1])
        server.shutdown(socket.SHUT_RDWR)


def test_a_busy_peer_is_unavailable_not_refusing(objects: list[OutgoingObject]) -> None:
    with AnsweringScp([], [objects[0].sop_class_uid]) as scp:
        scp._ae.maximum_associations = 1
        other = AE(ae_title="OTHER")
        other.add_requested_context(objects[0].sop_class_uid)
        link = other.associate("127.0.0.1", scp.port, ae_title="ORTHANC")
        assert link.is_established
        try:
            with pytest.raises(PeerUnavailableError, match="rejected the association"):
                open_peer(dimse(scp.port)).store(objects[:1])
        finally:
            link.release()


def test_a_name_that_does_not_resolve(objects: list[OutgoingObject]) -> None:
    with pytest.raises(PeerUnavailableError, match="could not be reached"):
        open_peer(dimse(104, host="pacs.invalid")).store(objects)


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(128) + b"DICM" + b"\xff" * 40])
def test_an_object_that_is_no_dicom_is_our_fault_not_the_peers(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(content)
    for source in (path, content):
        item = OutgoingObject("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", source)
        with pytest.raises(SpoolError, match=r"1\.2\.3\.4"):
            open_peer(dimse(104)).store([item])


def test_a_disk_in_trouble_says_nothing_about_the_object(tmp_path: Path) -> None:
    for path in (tmp_path / "away.dcm", tmp_path):
        item = OutgoingObject("1.2.840.10008.5.1.4.1.1.7", "1.2.3.4", path)
        with pytest.raises(OSError, match=path.name) as raised:
            open_peer(dimse(104)).store([item])
        assert raised.value.errno is not None


def test_no_secret_in_what_is_printed() -> None:
    url = "https://pacs/dicom-web"
    secrets = {"password": "hush-hush"}
    assert "hush" not in repr(DicomWebDestination(name="a", url=url, username="u", **secrets))
    assert "hush" not in repr(DicomWebDestination(name="a", url=url, token="hush-hush"))  # noqa: S106
