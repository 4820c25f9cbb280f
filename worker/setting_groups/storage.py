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
        repr=False,
        description=(
            "SQLAlchemy URL, for instance postgresql+psycopg://user@host/lungwatch. Unset: SQLite "
            "in the data folder."
        ),
    )
    database_password: SecretStr | None = Field(
        default=None,
        repr=False,
        description="Password of the database, unless its URL holds it.",
    )
    broker_url: SecretStr | None = Field(
        default=None,
        repr=False,
        description=(
            "Celery broker, for instance redis://host:6379/0. `lungwatch up` sets it to its "
            "embedded Valkey."
        ),
    )
    broker_password: SecretStr | None = Field(
        default=None,
        repr=False,
        description="Password of the broker, unless its URL holds it.",
    )
