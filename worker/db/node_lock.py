"""The one node of a database: a lock that ends with whoever holds it."""

from __future__ import annotations

import secrets
import socket
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from model.files import locked
from worker.errors import AlreadyRunningError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from worker.db.engine import Database

# One number for all nodes, as the audit trail has one for its lines. PostgreSQL keeps the advisory
# locks of each database apart.
_LOCK = 0x4E4F4445
_LONGEST_NAME = 63  # ASCII characters that PostgreSQL keeps of an application's name

# A host without power says no farewell: the server would keep its session for two hours, and no
# other node could take over. Seconds, and how often.
_INTRODUCTION = text("""
    SELECT set_config('tcp_keepalives_idle', '10', false),
        set_config('tcp_keepalives_interval', '5', false),
        set_config('tcp_keepalives_count', '3', false),
        set_config('application_name', :name, false)
""")
_HOLDERS = """
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = :lock AND objsubid = 1
    AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_HOLDER = text(f"SELECT pid, application_name {_HOLDERS}").bindparams(lock=_LOCK)
_HELD_HERE = text(f"SELECT count(*) {_HOLDERS} AND pid = pg_backend_pid()").bindparams(lock=_LOCK)


class NodeLock(ABC):
    """The lock that the one node of a database holds for as long as it works."""

    @abstractmethod
    def take(self) -> str | None:
        """Take the lock, or make sure that it is still held here.

        Returns
        -------
        str or None
            Who else holds it, None where it is held here now.

        Raises
        ------
        OperationalError
            If the database does not answer.
        """

    @abstractmethod
    def release(self) -> None:
        """Let the next one have it; harmless where it is not held."""


def node_lock(database: Database) -> NodeLock:
    """Give the lock of a database, not yet taken."""
    if database.engine.dialect.name == "postgresql":
        return _SessionLock(database)
    return _FileLock(Path(database.engine.url.database or ""))


class _FileLock(NodeLock):
    """A file beside an SQLite database, which two data folders may share by mistake."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.node.lock")
        self._held: ExitStack | None = None

    def take(self) -> str | None:
        if self._held is None:
            holding = ExitStack()
            try:
                holding.enter_context(locked(self._path, AlreadyRunningError()))
            except AlreadyRunningError:
                return f"it holds {self._path}"
            self._held = holding
        return None

    def release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()


class _SessionLock(NodeLock):
    """An advisory lock of PostgreSQL, held by a session that does nothing else."""

    def __init__(self, database: Database) -> None:
        self._engine = database.engine
        # The host is for people. The rest tells a session of ours that the server has not given up
        # yet from another node's, also between containers that have one host name.
        name = f"lungwatch {secrets.token_hex(4)} on {socket.gethostname()}"
        self._name = name.encode("ascii", "ignore")[:_LONGEST_NAME].decode()
        self._connection: Connection | None = None

    def take(self) -> str | None:
        if self._is_held():
            return None
        with ExitStack() as unless_taken:
            connection = unless_taken.enter_context(closing(self._connect()))
            holder = self._take_with(connection)
            if holder is None:
                self._connection = connection
                unless_taken.pop_all()
            return holder

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # By word, since the server may notice the end of a session later than who asks next. One
        # that is gone already holds nothing.
        with closing(connection), suppress(DBAPIError):
            connection.execute(select(func.pg_advisory_unlock(_LOCK)))

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        # Not only whether it answers: a pooler may have given the session to somebody else.
        with suppress(DBAPIError):
            if self._connection.scalar(_HELD_HERE):
                return True
        self._connection.close()
        self._connection = None
        return False

    def _connect(self) -> Connection:
        # Between two looks no transaction is open, which the server might end for being idle.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # The pool gives it to nobody else, and opens another one in its place.
        connection.detach()
        connection.execute(_INTRODUCTION, {"name": self._name})
        return connection

    def _take_with(self, connection: Connection) -> str | None:
        """Take the lock with a session, or tell who else holds it."""
        while not connection.scalar(select(func.pg_try_advisory_lock(_LOCK))):
            holder = connection.execute(_HOLDER).first()
            if holder is None:
                continue  # let go between the two questions
            if holder.application_name != self._name:
                return holder.application_name or f"process {holder.pid} of the server"
            # Our own session, of which only this side knows yet that its connection broke.
            connection.execute(select(func.pg_terminate_backend(holder.pid)))
            connection.execute(text("SET lock_timeout = '10s'"))
            connection.execute(select(func.pg_advisory_lock(_LOCK)))
            break
        return None
