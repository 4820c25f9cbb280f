"""A TCP proxy in front of a real PACS: as its mood is, it cuts, holds back or loses replies."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from support.raw_association import P_DATA_TF

from worker.embedded.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long an impatient node waits for a reply (`bench.faults.roles`).
IMPATIENT_SECONDS = 3.0

_HEADER_BYTES = 6
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 10.0


class Mood(StrEnum):
    """What becomes of the PACS's replies; associations are accepted and released in each mood."""

    WELL = "well"
    # The connection ends in the place of the reply.
    CUTS = "cuts replies"
    # The connection ends within the reply.
    HALVES = "halves replies"
    # The reply comes later than anybody waits for it.
    DELAYS = "delays replies"
    # The reply never comes, and the connection stays open.
    DROPS = "drops replies"


class MoodyProxy:
    """Passes connections on to a port of this machine, and spoils replies.

    A reply is a P-DATA-TF of the PACS (PS3.8 section 9.3.5). What the mood is when it comes counts.

    Parameters
    ----------
    target
        Port of the PACS.
    delay_seconds
        For how long a delayed reply is held back.

    Attributes
    ----------
    spoilt
        How many replies were spoilt in each mood.
    """

    def __init__(self, target: int, delay_seconds: float) -> None:
        (self.port,) = free_ports(1)
        self.spoilt: Counter[Mood] = Counter()
        self._target = target
        self._delay_seconds = delay_seconds
        self._mood = Mood.WELL
        self._stopping = threading.Event()
        self._server: socket.socket | None = None
        self._threads: list[threading.Thread] = []

    def set_mood(self, mood: Mood) -> None:
        """Be so from now on."""
        self._mood = mood

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._server.settimeout(_POLL_SECONDS)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._server is not None:
            self._server.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                caller, _ = self._server.accept()
                self._start(self._connect, caller)

    def _connect(self, caller: socket.socket) -> None:
        """Pass one connection on until either side ends it."""
        with caller, contextlib.suppress(OSError):
            # A PACS that is away hangs up on its callers.
            pacs = socket.create_connection(("127.0.0.1", self._target), _CONNECT_SECONDS)
            with pacs:
                for each in (caller, pacs):
                    each.settimeout(_POLL_SECONDS)
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                requests = threading.Thread(target=self._pass_requests, args=(caller, pacs))
                requests.start()
                try:
                    self._pass_replies(pacs, caller)
                finally:
                    for each in (caller, pacs):
                        with contextlib.suppress(OSError):
                            each.shutdown(socket.SHUT_RDWR)
                    requests.join()

    def _pass_requests(self, caller: socket.socket, pacs: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (received := self._receive(caller, 1 << 16)) != b"":
                _send(pacs, received)
            pacs.shutdown(socket.SHUT_WR)

    def _pass_replies(self, pacs: socket.socket, caller: socket.socket) -> None:
        for pdu in self._pdus(pacs):
            mood = self._mood if pdu[0] == P_DATA_TF else Mood.WELL
            if mood is not Mood.WELL:
                self.spoilt[mood] += 1
            if mood is Mood.CUTS:
                return
            if mood is Mood.HALVES:
                _send(caller, pdu[: len(pdu) // 2])
                return
            if mood is Mood.DELAYS:
                self._stopping.wait(self._delay_seconds)
            if mood is not Mood.DROPS:
                _send(caller, pdu)

    def _pdus(self, connection: socket.socket) -> Iterator[bytes]:
        """Yield each PDU that comes, whole, until the connection ends."""
        while len(header := self._receive_all(connection, _HEADER_BYTES)) == _HEADER_BYTES:
            (length,) = struct.unpack(">2xL", header)
            yield header + self._receive_all(connection, length)

    def _receive_all(self, connection: socket.socket, count: int) -> bytes:
        content = b""
        while len(content) < count and (part := self._receive(connection, count - len(content))):
            content += part
        return content

    def _receive(self, connection: socket.socket, count: int) -> bytes:
        """Wait for some bytes; none where the connection ended, or the proxy does."""
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                return connection.recv(count)
        return b""


def _send(connection: socket.socket, content: bytes) -> None:
    """Send everything, however slowly it is taken: a socket's timeout is for its reader."""
    view = memoryview(content)
    while view:
        try:
            view = view[connection.send(view) :]
        except TimeoutError:
            time.sleep(_POLL_SECONDS)
