"""Engines and transactions: SQLite that loses nothing, PostgreSQL that reconnects."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, sessionmaker

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUSY_TIMEOUT_MS = 30_000
# A server whose machine is gone answers nothing, not even that. Parameters of libpq.
_POSTGRESQL = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 30,  # seconds
    "keepalives_interval": 10,  # seconds
    "tcp_user_timeout": 60_000,  # milliseconds
}


def make_engine(url: str) -> Engine:
    """Make the engine for a database URL.

    SQLite runs in WAL mode with ``synchronous=FULL``, foreign keys and a busy timeout; a write
    transaction takes its lock at the start (``BEGIN IMMEDIATE``), so that two writers wait for
    each other instead of failing. PostgreSQL connections are checked before use, and
    given up where the server's machine is silent: after 10 seconds where one is opened, after a
    minute in use, unless the URL says otherwise. Errors of either do not show the values of a
    statement: these hold patient data.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        limits = {name: value for name, value in _POSTGRESQL.items() if name not in parsed.query}
        return create_engine(parsed, pool_pre_ping=True, hide_parameters=True, connect_args=limits)
    if parsed.database:
        # It holds patient data, as do the files of its write-ahead log beside it.
        Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(
        parsed, connect_args={"timeout": _BUSY_TIMEOUT_MS / 1000}, hide_parameters=True
    )
    event.listen(engine, "connect", _prepare_sqlite_connection)
    event.listen(engine, "begin", _begin_sqlite_transaction)
    return engine


def is_absent(url: str) -> bool:
    """Tell whether a URL names an SQLite file that is not there; connecting would make it."""
    parsed = make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or ".").is_file()


def _prepare_sqlite_connection(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's object
    # The driver must not open transactions on its own: _begin_sqlite_transaction does.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite_transaction(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's event signature
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


class Database:
    """A database: write transactions, read transactions and its clock.

    Parameters
    ----------
    url
        SQLAlchemy URL.
    """

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        self._read = sessionmaker(
            self.engine.execution_options(read_only=True), expire_on_commit=False
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open one transaction: committed at the end, rolled back on any exception."""
        with self._write.begin() as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session for reading only; nothing done in it is kept."""
        with self._read() as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def now(session: Session) -> datetime:
    """Tell the time by the database's clock, which all processes share.

    SQLite has one machine and takes that machine's clock, with its microseconds.
    """
    if session.get_bind().dialect.name == "postgresql":
        moment = session.scalar(select(func.clock_timestamp()))
        assert isinstance(moment, datetime)  # noqa: S101 - narrows the type
        return moment.astimezone(UTC)
    return datetime.now(UTC)
