"""One node at most for a data folder and a database, none while a command puts them in order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from model.files import locked
from worker.bootstrap import close_data_folder
from worker.db.node_lock import node_lock
from worker.errors import AlreadyRunningError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.db.engine import Database

_LOCK = "node.lock"


@contextmanager
def without_another_node(data_dir: Path, way_out: str) -> Iterator[None]:
    """Keep every other node from the data folder, which is made if need be.

    Parameters
    ----------
    data_dir
        The folder.
    way_out
        What a person can do where a node works with it.

    Raises
    ------
    AlreadyRunningError
        If a node works with it.
    """
    close_data_folder(data_dir)
    held = AlreadyRunningError(f"a node works with {data_dir}: {way_out}")
    with locked(data_dir / _LOCK, held):
        yield


@contextmanager
def without_another_node_on(database: Database, way_out: str) -> Iterator[None]:
    """Keep every other node from the database, on whatever host it is.

    Parameters
    ----------
    database
        The database.
    way_out
        What a person can do where a node works with it.

    Raises
    ------
    AlreadyRunningError
        If a node works with it.
    """
    lock = node_lock(database)
    holder = lock.take()
    if holder is not None:
        raise another_node(database, holder, way_out)
    try:
        yield
    finally:
        lock.release()


def another_node(database: Database, holder: str, way_out: str) -> AlreadyRunningError:
    """Say that somebody else holds the lock of the database, and what a person can do."""
    # The URL of an engine does not show its password.
    return AlreadyRunningError(f"a node works with {database.engine.url} ({holder}): {way_out}")
