"""Settings of the whole product, from environment variables that start with ``LUNGWATCH_``.

A wrong setting stops the start with one sentence that names the variable (`load_settings`).
The table in ``docs/settings.md`` is generated from the field descriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError
from worker.setting_groups.assembly import AssemblySettings
from worker.setting_groups.delivery import DeliverySettings
from worker.setting_groups.identity import IdentitySettings
from worker.setting_groups.logs import LogSettings
from worker.setting_groups.models import ModelSettings
from worker.setting_groups.receiving import ReceivingSettings
from worker.setting_groups.screening import ScreeningSettings
from worker.setting_groups.storage import StorageSettings

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "LUNGWATCH_"

# In the order of docs/settings.md.
GROUPS = (
    StorageSettings,
    ReceivingSettings,
    AssemblySettings,
    ScreeningSettings,
    ModelSettings,
    DeliverySettings,
    IdentitySettings,
    LogSettings,
)


class Settings(
    BaseSettings,
    StorageSettings,
    ReceivingSettings,
    AssemblySettings,
    ScreeningSettings,
    ModelSettings,
    DeliverySettings,
    IdentitySettings,
    LogSettings,
):
    """Everything an installation can set; see ``docs/settings.md``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

    @property
    def spool_dir(self) -> Path:
        """Folder of the received instances."""
        return self.data_dir / "spool"

    @property
    def results_dir(self) -> Path:
        """Folder of the encoded results on their way out."""
        return self.data_dir / "results"

    @property
    def reviews_dir(self) -> Path:
        """Folder of the segmentations that reviewers accepted or drew."""
        return self.data_dir / "reviews"

    @property
    def pseudonym_key(self) -> Path:
        """File of the key from which patients get their names outside of the database."""
        return self.reviews_dir / "pseudonyms.key"

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, SQLite in the data folder where none is set."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'lungwatch.db'}"

    @property
    def required_broker_url(self) -> str:
        """The broker's URL.

        Raises
        ------
        SettingsError
            If none is set.
        """
        if self.broker_url is None:
            raise SettingsError(
                f"{PREFIX}BROKER_URL is not set: give it a URL such as redis://localhost:6379/0, "
                "or use `lungwatch up`, which brings its own broker."
            )
        return self.broker_url.get_secret_value()


def load_settings(**overrides: object) -> Settings:
    """Read and check the settings.

    Parameters
    ----------
    **overrides
        Values that win over the environment, by field name.

    Returns
    -------
    Settings
        Checked settings.

    Raises
    ------
    SettingsError
        With one sentence for the first wrong setting; it names the variable.
    """
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + str(first["loc"][0]).upper()
        given = "a secret" if "URL" in name else repr(first.get("input"))
        raise SettingsError(f"{name} is wrong: {first['msg']} (given: {given}).") from None
