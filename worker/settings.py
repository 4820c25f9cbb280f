"""Settings of the whole product, from environment variables that start with ``LUNGWATCH_``.

A wrong setting stops the start with one sentence that names the variable (`load_settings`).
The table in ``docs/settings.md`` is generated from the field descriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError
from worker.setting_groups.assembly import AssemblySettings
from worker.setting_groups.delivery import DeliverySettings
from worker.setting_groups.encryption import EncryptionSettings
from worker.setting_groups.identity import IdentitySettings
from worker.setting_groups.logs import LogSettings
from worker.setting_groups.models import ModelSettings
from worker.setting_groups.receiving import ReceivingSettings
from worker.setting_groups.retention import RetentionSettings
from worker.setting_groups.screening import ScreeningSettings
from worker.setting_groups.secrets import (
    check_password,
    check_url_password,
    read_secret_files,
    secret_fields,
    url_with_password,
)
from worker.setting_groups.storage import StorageSettings

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "LUNGWATCH_"


class Settings(
    BaseSettings,
    StorageSettings,
    ReceivingSettings,
    EncryptionSettings,
    AssemblySettings,
    ScreeningSettings,
    ModelSettings,
    DeliverySettings,
    RetentionSettings,
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
            return _url(self, "database")
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
        return _url(self, "broker")


def _url(settings: Settings, service: str) -> str:
    url, password = (
        secret.get_secret_value() if isinstance(secret, SecretStr) else None
        for secret in (
            getattr(settings, f"{service}_url"),
            getattr(settings, f"{service}_password"),
        )
    )
    url_variable, password_variable = (
        f"{PREFIX}{service.upper()}_{part}" for part in ("URL", "PASSWORD")
    )
    if url is None:
        raise SettingsError(f"{password_variable} is set without {url_variable}: set that, too.")
    return url_with_password(url_variable, url, password_variable, password)


# In the order of docs/settings.md.
GROUPS: tuple[type[BaseModel], ...] = Settings.__bases__[1:]


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
    variables = secret_variables()
    wanted = {name: variables[name] for name in variables.keys() - overrides.keys()}
    try:
        settings = Settings(**read_secret_files(wanted), **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0])
        given = "a secret" if field in variables else repr(first.get("input"))
        raise SettingsError(
            f"{PREFIX}{field.upper()} is wrong: {first['msg']} (given: {given})."
        ) from None
    _check_secrets(settings)
    return settings


def secret_variables() -> dict[str, str]:
    """Give the variable of each setting that holds a secret, by field name.

    Each may come from a file instead, whose path the variable with ``_FILE`` at its end holds.
    """
    return {name: PREFIX + name.upper() for name in secret_fields(Settings)}


def _check_secrets(settings: Settings) -> None:
    for service in ("database", "broker"):
        password = getattr(settings, f"{service}_password")
        if password is not None:
            check_password(f"{PREFIX}{service.upper()}_PASSWORD", password.get_secret_value())
        if password is not None or getattr(settings, f"{service}_url") is not None:
            check_url_password(f"{PREFIX}{service.upper()}_URL", _url(settings, service))
    for entry in settings.destinations:
        check_url_password(f"{PREFIX}DESTINATIONS", entry)
