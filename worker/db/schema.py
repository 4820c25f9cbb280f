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

from worker.db.tables import Study
from worker.errors import WorkerError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


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


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run all missing migrations, up to a revision, in one transaction.

    SQLite changes a table by making it anew, which its foreign keys would refuse: they rest
    meanwhile, and are checked before anything is kept.

    Raises
    ------
    WorkerError
        If a migration left a reference to nothing.
    """
    config = _config()
    with engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        try:
            if sqlite:
                _enforce_foreign_keys(connection, enforced=False)
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, revision)
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check") if sqlite else None
                if broken is not None and (rows := broken.all()):
                    raise WorkerError(f"the migrations would leave references to nothing: {rows}")
        finally:
            if sqlite:
                _enforce_foreign_keys(connection, enforced=True)


def _enforce_foreign_keys(connection: Connection, *, enforced: bool) -> None:
    # On the driver's own connection: within a transaction SQLite ignores it.
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - narrows the type
    driver.execute(f"PRAGMA foreign_keys={'ON' if enforced else 'OFF'}")


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
        drift = compare_metadata(context, Study.metadata) if current == expected else []
    return SchemaStatus(current, expected, tuple(str(difference) for difference in drift))


def expected_revision() -> str:
    """Give the revision this version of the product needs."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def revisions() -> frozenset[str]:
    """Give every revision this version of the product knows."""
    script = ScriptDirectory.from_config(_config())
    return frozenset(each.revision for each in script.walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations_folder()))
    return config


def _migrations_folder() -> Path:
    package = Path(__file__).resolve().parent.parent
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"
