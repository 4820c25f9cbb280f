"""Fixtures for every kind of test: the real data and the real services."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from support.real_data import real_data
from support.services import PostgresqlServer, RedisServer, require, skip_or_fail
from support.storescu import Storescu

from worker.embedded.orthanc import DICOMWEB_PLUGIN, ThrowAwayOrthanc, find_orthanc
from worker.embedded.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data: LUNGWATCH_TEST_DATA, or shared/data beside the repository."""
    return real_data()


@pytest.fixture(autouse=True)
def log_lines_as_before() -> Iterator[None]:
    """Undo what a test, or a scenario within it, changes in how log lines are made."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Redis as in production; a test that stops it starts it again."""
    require("redis-server")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty database of the shared Redis, for Celery and redis-py."""
    return redis_server.empty()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """A cluster of our own; a test that stops it starts it again."""
    # pytest's folders are closed to the user postgres, as whom root has to run it.
    with tempfile.TemporaryDirectory(prefix="lungwatch-postgresql-") as folder:
        server = PostgresqlServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def postgresql_url(postgresql_server: PostgresqlServer) -> str:
    """SQLAlchemy URL of an empty database for this test alone."""
    return postgresql_server.create_database()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """The embedded broker, running, with a folder of its own."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture(scope="session")
def require_orthanc() -> Path:
    """Orthanc's program, with its DICOMweb plugin."""
    program = find_orthanc()
    if program is None or not DICOMWEB_PLUGIN.exists():
        skip_or_fail("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    return program


@pytest.fixture
def start_orthanc(
    require_orthanc: Path, tmp_path: Path
) -> Iterator[Callable[..., ThrowAwayOrthanc]]:
    """Start a throw-away Orthanc: call it with `ThrowAwayOrthanc`'s keyword arguments."""
    started: list[ThrowAwayOrthanc] = []

    def start(**options: object) -> ThrowAwayOrthanc:
        orthanc = ThrowAwayOrthanc(tmp_path / f"orthanc-{len(started)}", **options)
        started.append(orthanc)
        orthanc.start()
        return orthanc

    yield start
    for orthanc in started:
        # Its orderly end takes seconds, and nobody wants its storage any more.
        orthanc.kill()


@pytest.fixture
def orthanc(start_orthanc: Callable[..., ThrowAwayOrthanc]) -> ThrowAwayOrthanc:
    """An empty Orthanc that routes nothing."""
    return start_orthanc()


@pytest.fixture(scope="session")
def storescu() -> Storescu:
    """DCMTK's storescu."""
    return Storescu()
