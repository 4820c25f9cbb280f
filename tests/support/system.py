"""The whole product as its operators run it, around an Orthanc that routes to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from worker.db.engine import Database
from worker.db.tables import Instance, Study
from worker.embedded.orthanc import ThrowAwayOrthanc, route_stable_studies_lua
from worker.embedded.process import ServiceProcess, free_ports
from worker.lifecycle import AT_REST, StudyState
from worker.settings import PREFIX, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

_NODE = "LUNGWATCH"
_POLL_SECONDS = 0.2


def wait_until(what: str, holds: Callable[[], Any], seconds: float = 240) -> Any:
    """Wait for something to hold and return it; fail the test with its name when it never does."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(_POLL_SECONDS)
    return found


@dataclass(frozen=True)
class Progress:
    """Where a study stands in the database."""

    state: StudyState
    reason: str
    revision: int
    duplicates: int
    own_results: int
    instances: int


class System:
    """Lungwatch and a routing Orthanc.

    Parameters
    ----------
    folder
        For everything both store.
    commands
        Subcommands to run: ``up`` alone, or ``node`` and ``worker``.
    settings
        Settings beside the common ones.
    """

    def __init__(self, folder: Path, commands: tuple[str, ...] = ("up",), **settings: object):
        (self.port,) = free_ports(1)
        self.orthanc = ThrowAwayOrthanc(
            folder / "orthanc",
            modalities={_NODE: (_NODE, "127.0.0.1", self.port)},
            lua_script=route_stable_studies_lua(_NODE),
        )
        values = {
            "data_dir": folder / "lungwatch",
            "listen_host": "127.0.0.1",
            "listen_port": self.port,
            "allowed_calling_ae_titles": "ORTHANC,STORESCU",
            "destinations": f"dimse://ORTHANC@127.0.0.1:{self.orthanc.dicom_port}",
            "settle_seconds": 2,
            "sweep_seconds": 0.5,
            "republish_seconds": 10,
            "lease_seconds": 6,
            "delivery_retry_seconds": 1,
            "delivery_lease_seconds": 10,
            "minimum_free_mb": 64,
            "retention_free_mb": 0,
            **settings,
        }
        self.environment = {PREFIX + name.upper(): str(value) for name, value in values.items()}
        self.settings = load_settings(**values)
        self._services = {
            command: ServiceProcess(
                command, folder / f"{command}.log", start_seconds=120, stop_seconds=90
            )
            for command in commands
        }

    def __enter__(self) -> Self:
        self.orthanc.start()
        if "up" not in self._services:
            self.run("db", "upgrade")
        for command in self._services:
            self.start(command)
        return self

    def __exit__(self, *_: object) -> None:
        for service in self._services.values():
            service.stop()
        self.orthanc.kill()

    def start(self, command: str) -> None:
        """Start one subcommand and wait until it is of use."""
        ready = (lambda: True) if command == "worker" else self.listens
        self._services[command].start(
            [sys.executable, "-m", "worker.cli.main", command],
            ready,
            environment=self.environment,
        )

    def listens(self) -> bool:
        """Whether the node answers a C-ECHO."""
        echo = ["/usr/bin/echoscu", "-aet", "STORESCU", "-aec", _NODE, "127.0.0.1", str(self.port)]
        return subprocess.run(echo, capture_output=True, check=False).returncode == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a subcommand of `lungwatch` with the system's settings."""
        return subprocess.run(
            [sys.executable, "-m", "worker.cli.main", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=True,
        )

    def show(self, study_uid: str) -> dict[str, Any]:
        """What `lungwatch studies show --json` tells of a study."""
        return json.loads(self.run("studies", "show", study_uid, "--json").stdout)

    def progress(self, study_uid: str) -> Progress | None:
        """Where the study stands, None before its first instance."""
        with (
            closing(Database(self.settings.resolved_database_url)) as database,
            database.reading() as session,
        ):
            study = session.query(Study).filter_by(study_instance_uid=study_uid).one_or_none()
            if study is None:
                return None
            own = session.query(Instance).filter_by(study_id=study.id, reason="own_result").count()
            return Progress(
                study.state,
                study.reason,
                study.revision,
                study.duplicate_count,
                own,
                session.query(Instance).filter_by(study_id=study.id).count(),
            )

    def wait_for_state(self, study_uid: str, *states: StudyState, seconds: float = 300) -> Progress:
        """Wait until the study stands in one of the states; any rest by default."""
        wanted = states or AT_REST

        def reached() -> Progress | None:
            found = self.progress(study_uid)
            return found if found is not None and found.state in wanted else None

        return wait_until(f"{study_uid} in {[s.value for s in wanted]}", reached, seconds)

    def results(self, study_uid: str) -> dict[str, list[str]]:
        """Orthanc's identifiers of the results it holds of a study, by modality."""
        return {
            modality: self.orthanc.instances(modality=modality, study_instance_uid=study_uid)
            for modality in ("SEG", "SR", "OT")
        }

    def pids(self, command: str) -> list[int]:
        """Process ids of a subcommand of this system, found by its settings."""
        mark = f"{PREFIX}LISTEN_PORT={self.port}".encode()
        return [
            pid
            for pid in _processes()
            if _argument(pid, -1) == command and mark in _read(pid, "environ").split(b"\0")
        ]

    def broker_pid(self) -> int:
        """Process id of the embedded broker."""
        folder = str(self.settings.data_dir).encode()
        for pid in _processes():
            line = _read(pid, "cmdline")
            if b"valkey-server" in line and folder in line:
                return pid
        raise AssertionError("no embedded broker runs")


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _argument(pid: int, index: int) -> str:
    parts = _read(pid, "cmdline").rstrip(b"\0").split(b"\0")
    return parts[index].decode(errors="replace")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
