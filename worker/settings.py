"""Settings of the whole product, from environment variables that start with ``LUNGWATCH_``.

A wrong setting stops the start with one sentence that names the variable (`load_settings`).
The table in ``docs/settings.md`` is generated from the field descriptions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from worker.errors import SettingsError

PREFIX = "LUNGWATCH_"

# A backslash would separate two values (PS3.5 section 6.2).
_ONE_VALUE = r"^[^\\\x00-\x1f]*$"

AeTitle = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]*$")
]
Port = Annotated[int, Field(ge=0, le=65535)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """Everything an installation can set; see ``docs/settings.md``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore"
    )

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

    ae_title: AeTitle = Field(
        default="LUNGWATCH", description="Our AE title; associations called otherwise are rejected."
    )
    listen_host: str = Field(default="0.0.0.0", description="Address the DICOM listener binds to.")  # noqa: S104 - a listener is there to be reached
    listen_port: Port = Field(default=11112, description="TCP port of the DICOM listener.")
    allowed_calling_ae_titles: CommaSeparated = Field(
        default=(),
        description=(
            "AE titles that may send, separated by commas. Nobody may send while it is "
            "empty; * admits everybody."
        ),
    )
    maximum_associations: int = Field(
        default=16, ge=1, description="Associations accepted at the same time."
    )
    maximum_instance_mb: int = Field(
        default=2048, ge=1, description="Largest instance accepted, in MiB."
    )
    minimum_free_mb: int = Field(
        default=1024,
        ge=0,
        description="Free space of the data folder, in MiB, below which C-STORE answers 0xA700.",
    )

    destinations: CommaSeparated = Field(
        default=(),
        # It may hold passwords.
        repr=False,
        description=(
            "Where results go, separated by commas: dimse://AE_TITLE@host:port or "
            "stow+https://user:password@host/dicom-web, the latter with ?token=... instead of a "
            "user or ?ca_bundle=FILE where need be. Append #NAME to name one; otherwise its AE "
            "title or host does. Write @, / and # within a name or password as %40, %2F and %23."
        ),
    )
    delivery_retry_seconds: float = Field(
        default=30,
        gt=0,
        description=(
            "First pause before a failed delivery is tried again; doubles with each failure."
        ),
    )
    delivery_retry_maximum_seconds: float = Field(
        default=3600, gt=0, description="Longest pause between two tries of a delivery."
    )
    delivery_lease_seconds: float = Field(
        default=600,
        gt=0,
        description=(
            "Longest time sending one result may take; then it is sent again. A node that "
            "starts takes up what an earlier one left at once."
        ),
    )

    settle_seconds: float = Field(
        default=30,
        gt=0,
        description="A study is complete when nothing of it has arrived for this long.",
    )
    minimum_slices: int = Field(
        default=24, ge=3, description="Fewest slices of a series that is screened."
    )
    minimum_coverage_mm: float = Field(
        default=120,
        gt=0,
        description="Smallest extent along the patient axis of a series that is screened, in mm.",
    )

    model: str | None = Field(
        default=None,
        description=(
            "Model version to screen with (name-version or sha256), which pins it: promotions are "
            "refused then. Unset: the version promoted last, before the first promotion the "
            "newest shipped one, whatever else is in the model folder."
        ),
    )
    model_dir: Path | None = Field(
        default=None, description="Folder with further model versions beside the shipped one."
    )
    locked_test_set: Path | None = Field(
        default=None,
        description=(
            "Manifest of the images that promotions are judged on; its rows of the split test "
            "count. Unset: no version can be promoted."
        ),
    )
    promotion_margins: CommaSeparated = Field(
        default=("auc=0.02", "dice=0.02", "sensitivity=0.03", "specificity=0.03"),
        description=(
            "How much lower each figure of a candidate may be than that of the version in use, "
            "overall and on each source; source/metric=number sets that of one source."
        ),
    )
    operating_point: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Threshold on the study probability. Unset: the one stored with the model.",
    )
    minimum_lesion_ml: float = Field(
        default=0.1, ge=0, description="Smallest lesion reported, in millilitres."
    )
    maximum_lesions: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Lesions with a segment of their own; smaller ones share a last segment.",
    )

    worker_processes: int = Field(
        default=1, ge=1, description="Screening processes on a machine without GPU."
    )
    gpus: CommaSeparated = Field(
        default=(), description="GPU indices separated by commas; each gets one screening process."
    )
    training_gpus: CommaSeparated = Field(
        default=(),
        description=(
            "GPU indices separated by commas for `lungwatch trainer` and `lungwatch retrain`; "
            "unset: they train on the CPU. None of them may be among LUNGWATCH_GPUS."
        ),
    )
    training_beside_screening: bool = Field(
        default=False,
        description="Whether a training may use a GPU that screens as well: true or false.",
    )
    lease_seconds: float = Field(
        default=60,
        ge=3,
        description=(
            "Time after which a screening whose worker died is queued again; a living "
            "worker renews it."
        ),
    )
    screening_deadline_seconds: float = Field(
        default=3600,
        gt=0,
        description=(
            "Longest time a screening may take; then its worker process ends itself and the "
            "attempt counts as lost."
        ),
    )
    maximum_attempts: int = Field(
        default=3, ge=1, description="Attempts after which a screening fails for good."
    )
    sweep_seconds: float = Field(
        default=5,
        gt=0,
        description=(
            "Pause between two sweeps for settled studies, lost messages and expired leases."
        ),
    )
    republish_seconds: float = Field(
        default=60, gt=0, description="Time after which a queued screening gets another message."
    )

    uid_root: str = Field(
        default="2.25.",
        pattern=r"^[012](\.(0|[1-9]\d*))+\.$",
        max_length=40,
        description="Root of the UIDs of our objects, with its last dot.",
    )
    institution_name: str = Field(
        default="",
        max_length=64,
        pattern=_ONE_VALUE,
        description="Institution Name in our objects.",
    )
    station_name: str = Field(
        default="LUNGWATCH",
        max_length=16,
        pattern=_ONE_VALUE,
        description="Station Name in our objects.",
    )

    timezone: str = Field(
        default="UTC",
        description="Time zone of dates and times in our objects, for instance Europe/Paris.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log line written."
    )
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log lines for people or for machines."
    )

    @field_validator(
        "allowed_calling_ae_titles",
        "destinations",
        "gpus",
        "promotion_margins",
        "training_gpus",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("timezone")
    @classmethod
    def _known_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("it is not a time zone of the IANA database") from None
        return value

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
