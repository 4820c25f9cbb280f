"""The real services the tests speak to: started once, on free ports, in folders of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import redis
from psycopg import sql

from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM_FOLDERS = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"


def skip_or_fail(reason: str) -> None:
    """Skip the test; where CI=true fail it, because there everything has to be installed."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def require(tool: str, package: str | None = None) -> Path:
    """Path of a program of the system, never of the virtual environment, which shadows DCMTK's.

    Without it the test is skipped with the reason, or fails where CI=true.
    """
    found = shutil.which(tool, path=_SYSTEM_FOLDERS)
    if found is None:
        skip_or_fail(f"{tool} is not installed: apt-get install {package or tool}")
    return Path(str(found))


class RedisServer:
    """Debian's Redis with the settings asked for in production."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._service = ServiceProcess("Redis", folder / "redis.log")

    def start(self) -> None:
        options = (
            f"--port {self.port} --bind 127.0.0.1 --dir {self.folder} --save '' --appendonly yes"
            " --appendfsync everysec --maxmemory-policy noeviction"
        )
        arguments = ["" if part == "''" else part for part in options.split()]
        self._service.start([require("redis-server"), *arguments], self._answers)

    @property
    def pid(self) -> int:
        return self._service.pid

    def stop(self) -> None:
        self._service.stop()

    def kill(self) -> None:
        self._service.kill()

    def empty(self) -> str:
        """Delete what it holds and return its URL."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()
        return self.url

    def _answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class PostgresqlServer:
    """A PostgreSQL cluster of its own, which the Debian service cannot disturb."""

    _USER = "lungwatch"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        # SIGTERM would wait for every client to leave.
        self._service = ServiceProcess(
            "PostgreSQL", folder / "postgresql.log", stop_signal=signal.SIGINT
        )

    def start(self) -> None:
        data = self.folder / "data"
        if not data.exists():
            data.mkdir(mode=0o700)
            self._give_to_postgres()
            initdb = ["initdb", "-D", str(data), "-U", self._USER, "-E", "UTF8", "--locale=C"]
            self._run([*initdb, "--auth=trust", "--no-sync"])
        command = ["postgres", "-D", str(data), "-p", str(self.port), "-c", "fsync=off"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self._service.start(self._as_postgres(command), self._answers, cwd=self.folder)

    def stop(self) -> None:
        self._service.stop()

    @property
    def running(self) -> bool:
        return self._service.running

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy URL of one database."""
        return f"postgresql+psycopg://{self._USER}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Make an empty database and return its SQLAlchemy URL."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user={self._USER} dbname=postgres"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _give_to_postgres(self) -> None:
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
            shutil.chown(self.folder / "data", "postgres")

    def _as_postgres(self, command: Sequence[str]) -> list[str]:
        """The command with its full path; root, whom the server refuses, becomes postgres."""
        binary = _postgresql_binary(command[0])
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        return [*(prefix if os.getuid() == 0 else []), str(binary), *command[1:]]

    def _run(self, command: Sequence[str]) -> None:
        subprocess.run(self._as_postgres(command), check=True, capture_output=True, cwd="/")


def _postgresql_binary(name: str) -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not versions:
        skip_or_fail("PostgreSQL is not installed: apt-get install postgresql")
    return versions[-1]
