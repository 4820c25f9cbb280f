"""The composition root: the one place that turns settings into working parts."""

from __future__ import annotations

import os
import stat
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from dicom_node.errors import ConfigurationError
from worker.errors import SchemaOutdatedError, SettingsError
from worker.quiet_tensorflow import import_tensorflow_quietly
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session

    from dicom_node.config import Destination, ListenerConfig
    from dicom_node.objects.provenance import Equipment
    from dicom_node.reading.series import SelectionPolicy
    from model.inference import Predictor
    from model.registry import Registry, RegistryEntry
    from worker.db.engine import Database
    from worker.intake.assembler import Assembler
    from worker.screening.job import JobConfig, ScreeningJob
    from worker.screening.pickup import NetworkInUse, PickUps
    from worker.screening.sweeper import Sweeper
    from worker.settings import Settings
    from worker.versions.choice import Choice, Standing
    from worker.versions.promotion import Promotions

_MIB = 1024 * 1024
_OWNER_ONLY = 0o700


def check_before_start(
    settings: Settings, *, receives: bool = False, screens: bool = False, embedded: bool = False
) -> None:
    """Check what a service would trip over, before it starts anything; close its data folder.

    A supervisor calls it in the parent: a child that a wrong setting ends would be started again
    for ever.

    Parameters
    ----------
    settings
        The installation.
    receives
        Whether the service listens. It does so without a database, and looks at the schema once
        that is there.
    screens
        Whether the service screens: then the model has to be there, and the database with it.
    embedded
        Whether the service brings its own broker and upgrades the database.

    Raises
    ------
    SettingsError
        If a setting is missing or cannot work.
    RegistryError, ModelIntegrityError
        As `verify_model`.
    SchemaOutdatedError
        As `open_database`.
    """
    if receives:
        listener_config(settings)
    destinations(settings)
    if not embedded:
        _ = settings.required_broker_url
    if screens:
        verify_model(settings)
        if not embedded:
            open_database(settings).close()
    close_data_folder(settings.data_dir)


def close_data_folder(folder: Path) -> None:
    """Make the data folder, or close one that is there, for all users but its owner.

    What is in it is patient data, and then needs no permissions of its own. A folder that is not
    ours, or is meant for several users (sticky), stays as it is; `lungwatch doctor` warns of it.
    """
    # What cannot be written or closed is named by the part that needs it, and by the doctor.
    with suppress(OSError):
        folder.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
            folder.chmod(_OWNER_ONLY)


def open_database(settings: Settings) -> Database:
    """Open the database.

    Raises
    ------
    SchemaOutdatedError
        If its schema is not the one of this version.
    """
    from worker.db import schema
    from worker.db.engine import Database, is_absent

    url = settings.resolved_database_url
    if is_absent(url):
        raise _schema_outdated(url, "empty", schema.expected_revision())
    database = Database(url)
    status = schema.check(database.engine)
    if not status.up_to_date:
        database.close()
        changed = ", changed by hand" if status.drift else ""
        raise _schema_outdated(url, f"{status.current or 'empty'}{changed}", status.expected)
    return database


def _schema_outdated(url: str, current: str, expected: str) -> SchemaOutdatedError:
    from sqlalchemy.engine import make_url

    return SchemaOutdatedError(
        f"the schema of {make_url(url).render_as_string(hide_password=True)} is {current}, this "
        f"version needs {expected}: run `lungwatch db upgrade`, or, if that is not the service's "
        f"database, set {PREFIX}DATABASE_URL or {PREFIX}DATA_DIR as the service has them"
    )


def listener_config(settings: Settings) -> ListenerConfig:
    """Configure the listener.

    Raises
    ------
    SettingsError
        If nobody may send, or what names the senders cannot be read.
    """
    from dicom_node.config import ListenerConfig
    from worker.encryption import tls_files

    if not settings.allowed_calling_ae_titles:
        raise SettingsError(
            f"{PREFIX}ALLOWED_CALLING_AE_TITLES is not set: list the AE titles that may send, "
            "separated by commas, or * for everybody."
        )
    tls = None if settings.listen_unencrypted else tls_files(settings)
    try:
        return ListenerConfig(
            ae_title=settings.ae_title,
            host=settings.listen_host,
            port=settings.listen_port,
            spool_dir=settings.spool_dir,
            allowed_calling_ae_titles=frozenset(settings.allowed_calling_ae_titles),
            minimum_free_bytes=settings.minimum_free_mb * _MIB,
            tls=tls,
            maximum_associations=settings.maximum_associations,
            maximum_associations_per_address=settings.maximum_associations_per_address,
            maximum_instance_bytes=settings.maximum_instance_mb * _MIB,
        )
    except ConfigurationError as error:
        name = "allowed_calling_ae_titles"
        raise SettingsError(str(error).replace(name, f"{PREFIX}{name.upper()}")) from error


def selection_policy(settings: Settings) -> SelectionPolicy:
    """Configure the rules a series is chosen by."""
    from dicom_node.reading.series import SelectionPolicy

    return SelectionPolicy(
        minimum_slices=settings.minimum_slices,
        minimum_coverage_mm=settings.minimum_coverage_mm,
    )


def equipment(settings: Settings) -> Equipment:
    """Describe this node for the objects it writes."""
    from dicom_node.objects.provenance import Equipment

    return Equipment(
        software_version=version("lungwatch"),
        station_name=settings.station_name,
        institution_name=settings.institution_name,
    )


def assembler(settings: Settings, database: Database) -> Assembler:
    """Build the assembler."""
    from worker.intake.assembler import Assembler

    return Assembler(database, selection_policy(settings))


def sweeper(settings: Settings, database: Database) -> Sweeper:
    """Build the sweeper with its way to the broker."""
    from worker import app as celery_app
    from worker.screening.sweeper import Broker, Sweeper

    app = celery_app.make_app(settings)
    return Sweeper(
        database,
        Broker(
            publish=partial(celery_app.publish_screening, app),
            forgot=partial(celery_app.broker_forgot, app),
            mark=partial(celery_app.mark_broker, app),
            messages=partial(celery_app.messages_in_broker, app),
        ),
        maximum_attempts=settings.maximum_attempts,
        republish_seconds=settings.republish_seconds,
    )


def destinations(settings: Settings) -> tuple[Destination, ...]:
    """Parse and check the destinations."""
    from worker.delivery.destinations import parse_destinations

    return parse_destinations(settings)


def registry(settings: Settings) -> Registry:
    """Open the registry: the shipped versions and those of this installation."""
    from model.registry import Registry

    return Registry([settings.model_dir] if settings.model_dir else [])


def model_choice(settings: Settings) -> Choice:
    """Decide which version to screen with; `worker.versions.choice` has the rule.

    Raises
    ------
    RegistryError, ModelIntegrityError
        If the version is not there, or not what was promoted.
    """
    from worker.versions.choice import choose

    # Promotions live in the database; who pins a version needs none.
    if settings.model is not None:
        return choose(registry(settings), settings.model, None)
    with _session_with_promotions(settings) as session:
        return choose(registry(settings), None, session)


def model_standings(settings: Settings) -> list[Standing]:
    """List every model version and where it stands.

    Raises
    ------
    RegistryError
        If a manifest cannot be read.
    """
    from worker.versions.choice import standings

    with _session_with_promotions(settings) as session:
        return standings(registry(settings), session)


def model_pick_ups(settings: Settings) -> PickUps | None:
    """Tell which workers picked up the version in use, None without a database."""
    from worker.screening.pickup import pick_ups

    with _session_with_promotions(settings) as session:
        return pick_ups(session) if session is not None else None


@contextmanager
def _session_with_promotions(settings: Settings) -> Iterator[Session | None]:
    """Open the database for reading, if there is one that can hold promotions."""
    from worker.db import model_versions
    from worker.db.engine import Database, is_absent

    if is_absent(settings.resolved_database_url):
        yield None
        return
    with closing(Database(settings.resolved_database_url)) as database:
        if not model_versions.prepared(database.engine):
            yield None
            return
        with database.reading() as session:
            yield session


def chosen_model(settings: Settings) -> RegistryEntry:
    """Give the version to screen with.

    Raises
    ------
    RegistryError, ModelIntegrityError
        As `model_choice`.
    """
    return model_choice(settings).entry


def verify_model(settings: Settings) -> RegistryEntry:
    """Check the weights of the version to screen with, without loading them.

    Raises
    ------
    RegistryError
        If the version is not there.
    ModelIntegrityError
        If its weights are not what its manifest says.
    """
    entry = chosen_model(settings)
    entry.verified_weights()
    return entry


def promotions(settings: Settings, database: Database) -> Promotions:
    """Open the promotions of this installation.

    Raises
    ------
    ConfigError
        If a margin cannot be read.
    """
    from model.comparison import parse_margins
    from worker.training.slices import read_training_slice
    from worker.versions.gate import Gate, PromotionRules
    from worker.versions.promotion import Promotions

    gate = Gate(
        parse_margins(settings.promotion_margins),
        read_training_slice,
        partial(load_predictor, settings),
    )
    rules = PromotionRules(settings.model, settings.locked_test_set, settings.pseudonym_key)
    return Promotions(database, registry(settings), rules, gate)


def load_predictor(settings: Settings, entry: RegistryEntry | None = None) -> Predictor:
    """Load a network, verified by its sha256.

    Parameters
    ----------
    settings
        The installation.
    entry
        The version; None for the one to screen with.

    Raises
    ------
    RegistryError, ModelIntegrityError
        As `verify_model`.
    """
    import_tensorflow_quietly()
    from model.devices import configure_devices
    from model.inference import PredictionOptions, Predictor

    configure_devices()
    options = PredictionOptions(
        operating_point=settings.operating_point,
        minimum_lesion_ml=settings.minimum_lesion_ml,
        maximum_segments=settings.maximum_lesions,
    )
    return Predictor.load(entry or chosen_model(settings), options)


def job_config(settings: Settings) -> JobConfig:
    """Tell a job what it needs to know of the installation."""
    from zoneinfo import ZoneInfo

    from worker.screening.job import JobConfig

    return JobConfig(
        spool_dir=settings.spool_dir,
        results_dir=settings.results_dir,
        destinations=tuple(d.name for d in destinations(settings)),
        equipment=equipment(settings),
        uid_root=settings.uid_root,
        timezone=ZoneInfo(settings.timezone),
        lease_seconds=settings.lease_seconds,
        deadline_seconds=settings.screening_deadline_seconds,
        maximum_attempts=settings.maximum_attempts,
    )


def network_in_use(settings: Settings, database: Database) -> NetworkInUse:
    """Load the network to screen with, and pick up another one when that is promoted."""
    from worker.screening.job import worker_name
    from worker.screening.pickup import NetworkInUse
    from worker.versions.choice import choose

    return NetworkInUse(
        database,
        lambda session: choose(registry(settings), settings.model, session),
        partial(load_predictor, settings),
        worker_name(),
    )


def screening_job(settings: Settings) -> ScreeningJob:
    """Build the job a worker runs; loads the network."""
    from worker.screening.job import ScreeningJob

    database = open_database(settings)
    return ScreeningJob(database, network_in_use(settings, database), job_config(settings))
