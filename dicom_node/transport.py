"""What Lungwatch asks of every connection: whole PDUs, of bounded size, within a deadline."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
import warnings
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pynetdicom import _config

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.events import Event
    from pynetdicom.transport import AssociationSocket

# Enough for 128 presentation contexts with every transfer syntax there is.
LARGEST_ASSOCIATION_PDU = 192 * 1024
# Type, a reserved byte, and the length of what follows (PS3.8 section 9.3.1).
PDU_HEADER_BYTES = 6
# Held before the first byte of a PDU is there; a longer one grows with what arrives.
_FIRST_ALLOCATION = 128 * 1024
_PDU_TYPES = [bytes([number]) for number in range(1, 8)]

_Result = TypeVar("_Result")


class OversizedPduError(OSError):
    """The peer declared a PDU that is longer than allowed."""


def keep_data_sets_out_of_logs() -> None:
    """Switch off what prints data sets and so patients' names: two libraries' logging of values.

    Must run before a server or an association is made: they bind their loggers when created.
    """
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False
    # pydicom warns of values by quoting them, and Python keeps each different warning for ever.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pydicom")


def guard_outgoing(event: Event, timeout: float) -> None:
    """Put deadlines on a connection we opened (EVT_CONN_OPEN of a requestor).

    pynetdicom waits without end for the rest of a PDU that a peer began and never finished.

    Parameters
    ----------
    event
        The connection.
    timeout
        Seconds each PDU may take, in either direction.
    """
    wrapper = cast("AssociationSocket", event.assoc.dul.socket)
    stream = PduStream(cast("socket.socket", wrapper.socket), timeout=timeout)
    # pynetdicom makes the wrapper itself; only its methods can be replaced.
    replaceable = cast("Any", wrapper)
    replaceable.recv, replaceable.send = stream.receive, _sender(stream, wrapper)


def _sender(stream: PduStream, wrapper: AssociationSocket) -> Callable[[bytes], None]:
    def send(data: bytes) -> None:
        try:
            stream.send(data)
        except OSError:
            wrapper.event_queue.put("Evt17")  # Transport connection closed (PS3.8 table 9-10).

    return send


class PduStream:
    """Reads and writes the PDUs of one connection, plain or TLS.

    A timeout for each call of the socket would let a peer hold a thread for ever by sending a
    byte now and then; here each PDU has its deadline as a whole. The socket never blocks.

    Parameters
    ----------
    connection
        A connected socket; it becomes non-blocking.
    timeout
        Seconds from the first byte of a PDU to its last.
    largest
        Bytes that a PDU may declare.
    """

    def __init__(
        self, connection: socket.socket, *, timeout: float, largest: int = LARGEST_ASSOCIATION_PDU
    ) -> None:
        connection.settimeout(0)
        # Nagle and delayed ACK would cost 40 ms for each C-STORE.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        self._timeout = timeout
        self._largest = largest
        self._deadline = 0.0
        self._begun = bytearray()
        self._ended = False
        self._in_body = False

    def has_begun(self) -> bool:
        """Whether something of the next PDU is there, or the connection has ended.

        It reads rather than asks: what waits on a TLS connection may be no data.
        """
        if self._begun or self._ended:
            return True
        try:
            self._begun += self._connection.recv(PDU_HEADER_BYTES)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
            return False
        except OSError:
            self._ended = True
        self._deadline = time.monotonic() + self._timeout
        self._ended = self._ended or not self._begun
        return True

    def receive(self, length: int) -> bytearray:
        """Read the next part of a PDU: its header of six bytes, then the rest by its length.

        Returns
        -------
        bytearray
            Fewer bytes only where the peer closed the connection.

        Raises
        ------
        OversizedPduError
            If more bytes than allowed are asked for.
        TimeoutError
            If the PDU is not there by its deadline.
        """
        if self._ended:
            return bytearray()
        part, self._begun = self._begun, bytearray()
        if not self._in_body and not part:
            self._deadline = time.monotonic() + self._timeout
        if length > self._largest:
            msg = f"a PDU of {length} bytes was declared, {self._largest} are allowed"
            raise OversizedPduError(msg)
        rest = read_exactly(self._connection, length - len(part), self._deadline)
        # A PDU of a type that is none ends the association, and nobody asks for its rest.
        self._in_body = not self._in_body and (part + rest)[:1] in _PDU_TYPES
        return part + rest if part else rest

    def send(self, data: bytes) -> None:
        """Write a PDU.

        Raises
        ------
        OSError
            If the connection is gone, or the peer did not take the PDU by its deadline.
        """
        write_all(self._connection, data, time.monotonic() + self._timeout)


def wait_for_data(connection: socket.socket, deadline: float) -> None:
    """Wait until a peer sends something or closes the connection.

    Raises
    ------
    TimeoutError
        If it does neither by the deadline.
    """
    _wait(connection, select.POLLIN, deadline)


def read_exactly(connection: socket.socket, length: int, deadline: float) -> bytearray:
    """Read `length` bytes from a non-blocking socket, fewer only where the peer closed it.

    Parameters
    ----------
    connection
        The socket.
    length
        How many bytes.
    deadline
        By `time.monotonic`, in seconds.

    Raises
    ------
    TimeoutError
        If they are not there by the deadline.
    """
    buffer = bytearray(min(length, _FIRST_ALLOCATION))
    received = 0
    while received < length:
        if received == len(buffer):
            buffer.extend(bytes(min(length - received, len(buffer))))
        with memoryview(buffer)[received:] as rest:
            count = _retried(partial(connection.recv_into, rest), connection, "read", deadline)
        if count == 0:
            break
        received += count
    del buffer[received:]
    return buffer


def write_all(connection: socket.socket, data: bytes, deadline: float) -> None:
    """Write to a non-blocking socket by a deadline of `time.monotonic`, in seconds.

    Raises
    ------
    TimeoutError
        If the peer did not take it all by then.
    """
    sent = 0
    while sent < len(data):
        with memoryview(data)[sent:] as rest:
            sent += _retried(partial(connection.send, rest), connection, "write", deadline)


def shake_hands(connection: ssl.SSLSocket, deadline: float) -> None:
    """Carry out the TLS handshake of a non-blocking socket by a deadline.

    Raises
    ------
    TimeoutError
        If it is not done by the deadline.
    ssl.SSLError
        If it failed.
    """
    _retried(connection.do_handshake, connection, "read", deadline)


def close(connection: socket.socket) -> None:
    """Close a connection at once, whatever state it is in; with TLS say so to the peer."""
    if isinstance(connection, ssl.SSLSocket):
        with suppress(OSError, ValueError):
            connection.settimeout(0)
            connection.unwrap()  # Sends the close_notify; nobody waits for the peer's.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    # pynetdicom leaves a socket open whose shutdown failed, as after a reset.
    connection.close()


def _retried(
    attempt: Callable[[], _Result], connection: socket.socket, waits_for: str, deadline: float
) -> _Result:
    """Try until the socket need not be waited for; TLS may have to read before it writes."""
    while True:
        try:
            return attempt()
        except ssl.SSLWantReadError:
            _wait(connection, select.POLLIN, deadline)
        except ssl.SSLWantWriteError:
            _wait(connection, select.POLLOUT, deadline)
        except BlockingIOError:
            _wait(connection, select.POLLIN if waits_for == "read" else select.POLLOUT, deadline)


def _wait(connection: socket.socket, event: int, deadline: float) -> None:
    remaining = deadline - time.monotonic()
    poll = select.poll()  # select() fails from descriptor 1024 on.
    poll.register(connection, event)
    if remaining <= 0 or not poll.poll(remaining * 1000):
        msg = "the deadline has passed"
        raise TimeoutError(msg)
