"""Everything on one machine: embedded broker, SQLite, node and workers as one process group."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from worker import bootstrap
from worker.db.engine import Database
from worker.embedded.valkey import EmbeddedValkey
from worker.schema_upgrade import upgrade_schema
from worker.services.fleet import add_workers
from worker.setting_groups.secrets import file_variable
from worker.settings import PREFIX
from worker.supervisor import Supervisor, run_until_signal
from worker.telemetry import configure_logging

if TYPE_CHECKING:
    from worker.settings import Settings


def embedded_supervisor(settings: Settings, broker: EmbeddedValkey) -> Supervisor:
    """Prepare node and workers as children around a running embedded broker.

    The database's schema is brought up to date first. A broker that dies is started again with
    what its append-only file holds.
    """
    with closing(Database(settings.resolved_database_url)) as database:
        upgrade_schema(database)

    def tend() -> None:
        if not broker.running:
            broker.start()

    supervisor = Supervisor(tend)
    common = _as_environment(settings)
    for variable in ("BROKER_URL_FILE", "BROKER_PASSWORD", "BROKER_PASSWORD_FILE"):
        common.pop(PREFIX + variable, None)
    common[f"{PREFIX}BROKER_URL"] = broker.url
    supervisor.add("node", [sys.executable, "-m", "worker.cli.main", "node"], common)
    add_workers(supervisor, settings, common)
    return supervisor


def run_up(settings: Settings) -> None:
    """Run the embedded system until SIGINT or SIGTERM.

    Raises
    ------
    SettingsError, RegistryError, ModelIntegrityError
        As `bootstrap.check_before_start`.
    EmbeddedServiceError
        If the broker cannot start.
    """
    configure_logging(settings)
    bootstrap.check_before_start(settings, receives=True, screens=True, embedded=True)
    with EmbeddedValkey(settings.data_dir / "broker") as broker:
        run_until_signal(embedded_supervisor(settings, broker))


def _as_environment(settings: Settings) -> dict[str, str]:
    """Give the children the settings in force, wherever they came from.

    What came from a secret file they read from there themselves.
    """
    environment = dict(os.environ)
    for name in type(settings).model_fields:
        found = getattr(settings, name)
        if found is None or environment.get(file_variable(PREFIX + name.upper())):
            continue
        if isinstance(found, tuple):
            text = ",".join(found)
        elif hasattr(found, "get_secret_value"):
            text = found.get_secret_value()
        else:
            text = str(found)
        environment[PREFIX + name.upper()] = text
    return environment
