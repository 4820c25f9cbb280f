"""Settings of the data folder, the database and the broker."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr


class StorageSettings(BaseModel):
    """Where the data lie: what must survive, and the services that keep it."""

    data_dir: Path = Field(
        default=Path("lungwatch-data"),
        description=(
            "Folder for everything that must survive: spool, results, embedded database and broker."
        ),
    )
    database_url: SecretStr | None = Field(
        default=None,
        description=(
            "SQLAlchemy URL, for instance "
            "postgresql+psycopg://user:password@host/lungwatch. Unset: SQLite in the data "
            "folder."
        ),
    )
    broker_url: SecretStr | None = Field(
        default=None,
        description=(
            "Celery broker, for instance redis://:password@host:6379/0. `lungwatch up` "
            "sets it to its embedded Valkey."
        ),
    )
