"""What Lungwatch asks of every connection: no delay, no oversized PDU, no data set in a log."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import _config

if TYPE_CHECKING:
    from pynetdicom.events import Event
    from pynetdicom.transport import AssociationSocket

# An A-ASSOCIATE-RQ with 128 presentation contexts stays well below this, whatever the P-DATA
# limit is.
_LARGEST_ASSOCIATION_PDU = 1 << 20


def keep_data_sets_out_of_logs() -> None:
    """Switch off pynetdicom's event logging, which prints data sets and so patients' names.

    Must run before a server or an association is made: they bind their loggers when created.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False


def set_no_delay(event: Event) -> None:
    """Send small PDUs at once (EVT_CONN_OPEN): Nagle and delayed ACK cost 40 ms per C-STORE."""
    _raw_socket(event).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def guard_incoming(event: Event, maximum_pdu_size: int, timeout: float) -> None:
    """Bound what an accepted connection may cost (EVT_CONN_OPEN of an acceptor).

    pynetdicom sets no timeout on accepted sockets and buffers whatever length a PDU declares,
    before the association exists; it also reads in pieces of 4 KiB. This replaces its reader
    for one connection.

    Parameters
    ----------
    event
        The connection.
    maximum_pdu_size
        A longer PDU closes the connection, in bytes.
    timeout
        Seconds a peer may be silent in the middle of a PDU.
    """
    set_no_delay(event)
    connection = _raw_socket(event)
    connection.settimeout(timeout)
    limit = max(maximum_pdu_size, _LARGEST_ASSOCIATION_PDU)

    def receive(length: int) -> bytearray:
        if length > limit:
            message = f"the peer declared a PDU of {length} bytes, {limit} are allowed"
            raise OSError(message)
        return _receive_exactly(connection, length)

    cast("Any", event.assoc.dul.socket).recv = receive


def _receive_exactly(connection: socket.socket, length: int) -> bytearray:
    """Read `length` bytes, fewer only where the peer closed the connection."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    received = 0
    while received < length:
        count = connection.recv_into(view[received:])
        if count == 0:
            break
        received += count
    view.release()
    del buffer[received:]
    return buffer


def _raw_socket(event: Event) -> socket.socket:
    return cast("socket.socket", cast("AssociationSocket", event.assoc.dul.socket).socket)
