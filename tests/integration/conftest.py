"""Fixtures of the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.db import schema
from worker.db.engine import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty database of each kind, of the newest schema."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'lungwatch.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    database = Database(url)
    schema.upgrade(database.engine)
    yield database
    database.close()
