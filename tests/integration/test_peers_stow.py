"""STOW-RS over a real HTTP server that answers as told: authentication, TLS, every failure."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from support.services import require

from dicom_node.config import DicomWebDestination
from dicom_node.errors import PeerNotReadyError, PeerUnavailableError
from dicom_node.peers import OutgoingObject, open_peer
from dicom_node.status import StoreVerdict

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class StowServer:
    """Answers each request with the next of `answers`, then with plain successes."""

    answers: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.authorizations.append(self.headers["Authorization"])
                self._answer(*(told.answers.pop(0) if told.answers else (200, [])))

            def do_POST(self) -> None:
                told.authorizations.append(self.headers["Authorization"])
                told.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*(told.answers.pop(0) if told.answers else (200, {})))

            def _answer(self, code: int, body: object) -> None:
                content = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/dicom+json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://localhost:{self._server.server_port}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[StowServer]:
    with StowServer() as running:
        yield running


def destination(server: StowServer, **changes: object) -> DicomWebDestination:
    return DicomWebDestination(name="stow", url=server.url, **changes)


@pytest.fixture(scope="module")
def item() -> OutgoingObject:
    dataset = Dataset()
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return OutgoingObject(SecondaryCaptureImageStorage, "1.2.3.4", buffer.getvalue())


def response(sequence: str, reason: str, code: int) -> dict[str, object]:
    dataset = Dataset()
    entry = Dataset()
    entry.ReferencedSOPClassUID = SecondaryCaptureImageStorage
    entry.ReferencedSOPInstanceUID = "1.2.3.4"
    setattr(entry, reason, code)
    setattr(dataset, sequence, [entry])
    return dataset.to_json_dict()


def test_the_object_arrives_as_one_part_of_the_body(
    server: StowServer, item: OutgoingObject
) -> None:
    (outcome,) = open_peer(destination(server)).store([item])
    assert outcome.verdict is StoreVerdict.STORED
    part = server.bodies[0].split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    assert dcmread(DicomBytesIO(part)) == dcmread(DicomBytesIO(item.content))


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({}, None),
        ({"username": "lungwatch", "password": "secret"}, "Basic bHVuZ3dhdGNoOnNlY3JldA=="),
        ({"token": "abc"}, "Bearer abc"),
    ],
)
def test_credentials(
    server: StowServer, item: OutgoingObject, credentials: dict[str, str], header: str | None
) -> None:
    peer = open_peer(destination(server, **credentials))
    peer.echo()
    peer.store([item])
    assert server.authorizations == [header, header]


@pytest.mark.parametrize(
    ("answer", "verdict", "status"),
    [
        (
            (202, response("ReferencedSOPSequence", "WarningReason", 0xB000)),
            StoreVerdict.STORED_WITH_WARNING,
            0xB000,
        ),
        (
            (202, response("FailedSOPSequence", "FailureReason", 0xA900)),
            StoreVerdict.REFUSED,
            0xA900,
        ),
        (
            (409, response("FailedSOPSequence", "FailureReason", 0xA700)),
            StoreVerdict.UNAVAILABLE,
            0xA700,
        ),
        (
            (409, response("FailedSOPSequence", "FailureReason", 0x0111)),
            StoreVerdict.ALREADY_STORED,
            0x0111,
        ),
        ((409, {}), StoreVerdict.REFUSED, None),
        ((400, {}), StoreVerdict.REFUSED, None),
        ((415, {}), StoreVerdict.REFUSED, None),
        ((422, {}), StoreVerdict.REFUSED, None),
        ((401, {}), StoreVerdict.UNAVAILABLE, None),
        ((403, {}), StoreVerdict.UNAVAILABLE, None),
        ((404, {}), StoreVerdict.UNAVAILABLE, None),
        ((405, {}), StoreVerdict.UNAVAILABLE, None),
        ((407, {}), StoreVerdict.UNAVAILABLE, None),
        ((413, {}), StoreVerdict.UNAVAILABLE, None),
        ((499, {}), StoreVerdict.UNAVAILABLE, None),
    ],
)
def test_answers(
    server: StowServer,
    item: OutgoingObject,
    answer: tuple[int, dict[str, object]],
    verdict: StoreVerdict,
    status: int | None,
) -> None:
    server.answers = [answer]
    first, second = open_peer(destination(server)).store([item, item])
    assert (first.verdict, first.status) == (verdict, status)
    assert second.verdict is StoreVerdict.STORED


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_a_busy_service_is_asked_again(server: StowServer, item: OutgoingObject, code: int) -> None:
    server.answers = [(code, {})]
    (outcome,) = open_peer(destination(server)).store([item])
    assert outcome.stored
    assert len(server.bodies) == 2


def test_a_service_that_stays_busy_is_unavailable(server: StowServer, item: OutgoingObject) -> None:
    server.answers = [(503, {})] * 3
    with pytest.raises(PeerUnavailableError, match="HTTP 503"):
        open_peer(destination(server)).store([item])
    assert len(server.bodies) == 3


def test_busy_after_the_first_object_is_told_for_the_second(
    server: StowServer, item: OutgoingObject
) -> None:
    server.answers = [(200, {}), (503, {})]
    first, second = open_peer(destination(server)).store([item, item])
    assert first.stored
    assert second.verdict is StoreVerdict.UNAVAILABLE
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("code", "way_out"),
    [(401, "password"), (403, "account"), (404, "URL"), (413, "limit"), (451, "URL")],
)
def test_what_stands_in_the_way_is_named_and_not_hammered(
    server: StowServer, item: OutgoingObject, code: int, way_out: str
) -> None:
    server.answers = [(code, {})]
    with pytest.raises(PeerNotReadyError, match=f"HTTP {code}.*{way_out}"):
        open_peer(destination(server)).echo()
    assert len(server.authorizations) == 1

    server.answers = [(code, {})]
    (outcome,) = open_peer(destination(server)).store([item])
    assert way_out in outcome.detail
    assert len(server.bodies) == 1


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that no authority signed, and its key."""
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = [require("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "1"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def test_the_servers_certificate_is_verified(
    certificate: tuple[Path, Path], item: OutgoingObject
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with StowServer(tls=context) as server:
        with pytest.raises(PeerUnavailableError, match="SSLError"):
            open_peer(destination(server)).store([item])
        assert server.bodies == []
        (outcome,) = open_peer(destination(server, ca_bundle=certificate[0])).store([item])
        assert outcome.stored
