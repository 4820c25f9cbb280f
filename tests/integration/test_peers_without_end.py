"""Destinations whose answers never come to an end: they hold nothing up for longer than allowed."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.commitment import StoredReference
from dicom_node.config import DicomWebDestination, DimseDestination
from dicom_node.errors import PeerUnavailableError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.peers import query as c_find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicom_node.peers import Peer

WANTED = StoredReference("1.2", "1.2.3", "1.5", "1.6")
HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"
# Longer than any test here may take, with a byte every twentieth of a second.
DRIPS = 400
# Twice the timeout below, and room for a busy machine.
SOON_SECONDS = 8.0


@pytest.fixture(autouse=True)
def _once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second try within seconds: it is the same again."""
    monkeypatch.setattr("dicom_node.peers.retry.ATTEMPTS", 1)


@contextmanager
def dripping(at_once: bytes, drip: bytes) -> Iterator[DicomWebDestination]:
    """A DICOMweb service that begins its answer, and goes on with a byte now and then."""

    def answer(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            connection.recv(1 << 16)
            connection.sendall(at_once)
            for number in range(DRIPS):
                time.sleep(0.05)
                connection.sendall(drip[number % len(drip) :][:1])

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/dicom-web"
        yield DicomWebDestination(name="stow", url=url, response_timeout=0.5)
        server.shutdown(socket.SHUT_RDWR)


def an_object() -> OutgoingObject:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return OutgoingObject(SecondaryCaptureImageStorage, "1.2.3.4", buffer.getvalue())


@pytest.mark.parametrize(
    ("at_once", "drip"),
    [
        (HEADERS + b"Content-Length: 100000\r\n\r\n", b" "),
        (HEADERS + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (HEADERS + b"\r\n", b" "),
        (HEADERS, b"X-More: and more\r\n"),
    ],
    ids=["body", "chunks", "until_the_end", "headers"],
)
@pytest.mark.parametrize(
    "ask",
    [lambda peer: peer.store([an_object()]), lambda peer: peer.find([WANTED])],
    ids=["stow", "qido"],
)
def test_a_web_service_that_drips_its_answer_is_given_up(
    at_once: bytes, drip: bytes, ask: Callable[[Peer], object]
) -> None:
    with dripping(at_once, drip) as destination:
        began = time.monotonic()
        with pytest.raises(PeerUnavailableError, match="could not be reached"):
            ask(open_peer(destination))
        assert time.monotonic() - began < SOON_SECONDS


@contextmanager
def endless(pause: float) -> Iterator[DimseDestination]:
    """A PACS that finds one match after another."""

    def find(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        while event.assoc.is_established:
            time.sleep(pause)
            yield 0xFF00, event.identifier

    ae = AE(ae_title="PACS")
    ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
    handlers = [(evt.EVT_C_FIND, find)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    port = server.server_address[1]
    yield DimseDestination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, calling_ae_title="NODE"
    )
    server.shutdown()


@pytest.mark.parametrize(
    ("ceiling", "value", "pause"), [("MOST_ANSWERS", 20, 0), ("LONGEST_SECONDS", 0.3, 0.05)]
)
def test_a_pacs_that_finds_without_end_is_given_up(
    monkeypatch: pytest.MonkeyPatch, ceiling: str, value: float, pause: float
) -> None:
    monkeypatch.setattr(c_find, ceiling, value)
    with endless(pause) as destination:
        began = time.monotonic()
        with pytest.raises(PeerUnavailableError, match="did not come to an end of its C-FIND"):
            open_peer(destination).find([WANTED])
        assert time.monotonic() - began < SOON_SECONDS
        while time.monotonic() - began < SOON_SECONDS and associations():
            time.sleep(0.05)
    assert not associations()


def associations() -> list[Association]:
    """Our associations whose threads still run."""
    alive = [thread for thread in threading.enumerate() if isinstance(thread, Association)]
    return [association for association in alive if association.is_requestor]
