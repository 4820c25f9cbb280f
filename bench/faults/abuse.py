"""Peers that hold connections and send nothing of use, and what they cost the one they hold."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.raw_association import association_request

_DRIP_SECONDS = 0.05
# More would measure this process, which shares its machine with the one it holds.
_OPENED_AT_ONCE = 10


@dataclass(frozen=True)
class Cost:
    """What a process takes: resident memory in KiB, threads, open files."""

    rss_kib: int
    threads: int
    files: int


def cost_of(pid: int) -> Cost:
    """Read what a process takes now."""
    process = Path(f"/proc/{pid}")
    status = (process / "status").read_text()
    (rss,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    threads, files = (sum(1 for _ in (process / name).iterdir()) for name in ("task", "fd"))
    return Cost(int(rss), threads, files)


def peak_rss_kib(pid: int) -> int:
    """Read the most resident memory a process ever had, in KiB: what it freed since counts too."""
    status = Path(f"/proc/{pid}/status").read_text()
    (peak,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak)


def cost_at_rest(pid: int, base: Cost, seconds: float) -> Cost:
    """Wait until threads and files are back at a base, for some seconds, and give what there is."""
    deadline = time.monotonic() + seconds
    while True:
        now = cost_of(pid)
        if (now.threads <= base.threads and now.files <= base.files) or time.monotonic() > deadline:
            return now
        time.sleep(0.1)


class Abuser:
    """Holds many sockets to one port; one that is closed is opened anew.

    Parameters
    ----------
    port
        Whom to hold.
    count
        How many sockets.
    opening
        Bytes that each sends at once.
    drip
        Bytes of which each then sends one now and then; empty: none.
    source
        Address to call from.
    tls
        Shakes hands first; None does not.
    """

    def __init__(
        self,
        port: int,
        count: int,
        *,
        opening: bytes = b"",
        drip: bytes = b"",
        source: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._port = port
        self._count = count
        self._opening = opening
        self._drip = drip
        self._source = source
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self._sockets.append(self._open())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        for each in self._sockets:
            each.close()

    def _open(self) -> socket.socket:
        # What holds one of these up is the one it holds, and no reason for it to wait.
        connection = socket.create_connection(("127.0.0.1", self._port), 10, (self._source, 0))
        with contextlib.suppress(OSError):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_hostname="127.0.0.1")
            connection.sendall(self._opening)
        connection.settimeout(0)
        return connection

    def _hold(self) -> None:
        sent = 0
        while not self._stopping.wait(_DRIP_SECONDS):
            opened = 0
            for number, each in enumerate(self._sockets):
                if self._stopping.is_set():
                    return
                with contextlib.suppress(OSError):
                    if self._is_closed(each):
                        if opened < _OPENED_AT_ONCE:
                            each.close()
                            self._sockets[number] = self._open()
                            opened += 1
                    elif self._drip:
                        each.send(self._drip[sent % len(self._drip) :][:1])
            sent += 1

    @staticmethod
    def _is_closed(connection: socket.socket) -> bool:
        try:
            return connection.recv(4096) == b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True


def partial_request() -> bytes:
    """Give an A-ASSOCIATE-RQ without its end."""
    return association_request()[:-20]


def unfinished_data() -> bytes:
    """Give an A-ASSOCIATE-RQ and a P-DATA-TF that declares 16,000 bytes and holds 6."""
    return association_request() + struct.pack(">BxL", 4, 16000) + struct.pack(">LBB", 15996, 1, 1)


def percentile_99(seconds: list[float]) -> float:
    """Give what all but one in a hundred stay below."""
    return sorted(seconds)[-(-len(seconds) * 99 // 100) - 1] if seconds else float("inf")
