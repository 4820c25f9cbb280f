"""The schema's version: bring a database up to date, or tell what it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from worker.db.tables import Base

if TYPE_CHECKING:
    from sqlalchemy import Engine


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database's schema stands against this version of the product."""

    current: str | None
    expected: str
    drift: tuple[str, ...]

    @property
    def up_to_date(self) -> bool:
        """Whether the product can run on this database."""
        return self.current == self.expected and not self.drift


def upgrade(engine: Engine) -> None:
    """Run all missing migrations in one transaction."""
    config = _config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def check(engine: Engine) -> SchemaStatus:
    """Compare the database with the migrations and the tables.

    Returns
    -------
    SchemaStatus
        Its ``drift`` names every difference between the database and the tables.
    """
    expected = expected_revision()
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        current = context.get_current_revision()
        drift = compare_metadata(context, Base.metadata) if current == expected else []
    return SchemaStatus(current, expected, tuple(str(difference) for difference in drift))


def expected_revision() -> str:
    """Give the revision this version of the product needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations_folder()))
    return config


def _migrations_folder() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
