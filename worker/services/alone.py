"""One node at most for a data folder, and none while a command puts the folder in order."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from model.files import locked
from worker.bootstrap import close_data_folder
from worker.errors import AlreadyRunningError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
