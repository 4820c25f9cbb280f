"""An association byte by byte, for what no DICOM library would send."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"
_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
_IMPLEMENTATION = "2.25.310"
A_ASSOCIATE_AC, A_ASSOCIATE_RJ, P_DATA_TF, A_RELEASE_RP = 2, 3, 4, 6


def pdu(kind: int, body: bytes) -> bytes:
    """Encode a PDU (PS3.8 section 9.3.1)."""
    return struct.pack(">BxL", kind, len(body)) + body


def association_request(
    calling: str = "STORESCU", called: str = "LUNGWATCH", sop_class: str = VERIFICATION
) -> bytes:
    """Encode an A-ASSOCIATE-RQ with one presentation context (PS3.8 table 9-11)."""
    context = bytes([1, 0, 0, 0]) + _item(0x30, sop_class) + _item(0x40, IMPLICIT_VR_LITTLE_ENDIAN)
    user = struct.pack(">BxHL", 0x51, 4, 16384) + _item(0x52, _IMPLEMENTATION)
    return pdu(
        1,
        struct.pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
        + _item(0x10, _APPLICATION_CONTEXT)
        + struct.pack(">BxH", 0x20, len(context))
        + context
        + struct.pack(">BxH", 0x50, len(user))
        + user,
    )


def echo_request() -> bytes:
    """Encode a C-ECHO-RQ in one P-DATA-TF (PS3.7 table 9.3-12)."""
    fields = {0x0100: 0x0030, 0x0110: 1, 0x0800: 0x0101}
    return command_fragment(_command(VERIFICATION, fields))


def store_request(sop_class: str, sop_instance: str, message_id: int = 1) -> bytes:
    """Encode the command set of a C-STORE-RQ (PS3.7 table 9.3-1), without its data set."""
    fields = {0x0100: 0x0001, 0x0110: message_id, 0x0700: 0, 0x0800: 0x0001}
    instance = _element(0x1000, sop_instance.encode() + b"\0" * (len(sop_instance) % 2))
    return command_fragment(_command(sop_class, fields, instance))


def command_fragment(data: bytes, *, last: bool = True) -> bytes:
    """Encode a P-DATA-TF with a fragment of a command set (PS3.8 annex E.2)."""
    return _fragment(data, 3 if last else 1)


def data_fragment(data: bytes, *, last: bool = True) -> bytes:
    """Encode a P-DATA-TF with a fragment of a data set (PS3.8 annex E.2)."""
    return _fragment(data, 2 if last else 0)


@contextmanager
def connected(
    port: int, *, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None, timeout: float = 30
) -> Iterator[socket.socket]:
    """Connect from an address of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout, (source, 0)) as plain:
        if tls is None:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield plain
            return
        with tls.wrap_socket(plain, server_hostname="127.0.0.1") as encrypted:
            yield encrypted


def receive_pdu(connection: socket.socket) -> tuple[int, bytes]:
    """Read a PDU; type 0 where the connection is closed."""
    try:
        header = _receive(connection, 6)
        if len(header) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxL", header)
        return kind, _receive(connection, length)
    except ConnectionError:
        return 0, b""


def echo(
    port: int,
    *,
    source: str = "127.0.0.1",
    calling: str = "STORESCU",
    tls: ssl.SSLContext | None = None,
    timeout: float = 60,
) -> float:
    """Associate, C-ECHO, release: the seconds it took, connection included.

    Raises
    ------
    AssertionError
        If one of the three was not answered as it should be.
    """
    started = time.monotonic()
    with connected(port, source=source, tls=tls, timeout=timeout) as connection:
        connection.sendall(association_request(calling))
        answered = receive_pdu(connection)
        assert answered[0] == A_ASSOCIATE_AC, answered
        connection.sendall(echo_request())
        kind, body = receive_pdu(connection)
        assert kind == P_DATA_TF
        # (0000,0900) Status: success.
        assert b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in body
        connection.sendall(pdu(5, bytes(4)))
        assert receive_pdu(connection)[0] == A_RELEASE_RP
    return time.monotonic() - started


def _receive(connection: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        part = connection.recv(length - len(received))
        if not part:
            break
        received += part
    return received


def _fragment(data: bytes, control: int) -> bytes:
    return pdu(P_DATA_TF, struct.pack(">LBB", len(data) + 2, 1, control) + data)


def _command(sop_class: str, fields: dict[int, int], more: bytes = b"") -> bytes:
    """Encode a command set with its group length (PS3.7 section 6.3.1)."""
    uid = sop_class.encode() + b"\0" * (len(sop_class) % 2)
    numbers = b"".join(_element(tag, struct.pack("<H", value)) for tag, value in fields.items())
    command = _element(0x0002, uid) + numbers + more
    return _element(0x0000, struct.pack("<L", len(command))) + command


def _item(kind: int, uid: str) -> bytes:
    return struct.pack(">BxH", kind, len(uid)) + uid.encode()


def _element(tag: int, value: bytes) -> bytes:
    """Encode an element of group 0000 in Implicit VR Little Endian."""
    return struct.pack("<HHL", 0, tag, len(value)) + value
