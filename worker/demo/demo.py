"""The demonstration: a study goes to a PACS, and what comes back there is fetched."""

from __future__ import annotations

import socket
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dicom_node.config import DimseDestination
from worker.db import studies
from worker.db.engine import Database
from worker.demo.errors import DemoError
from worker.demo.pacs import demo_pacs
from worker.demo.sender import find_study, send_study
from worker.embedded.process import ServiceProcess, free_ports
from worker.explanations import explain
from worker.lifecycle import StudyState
from worker.screening.result import study_document
from worker.setting_groups.secrets import file_variable
from worker.settings import PREFIX, load_settings, secret_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from worker.db.tables import Study
    from worker.demo.pacs import DemoPacs
    from worker.settings import Settings

    Report = Callable[[str, float | None], None]
    MakePacs = Callable[[Path, str, int], AbstractContextManager[DemoPacs]]

_NODE, _SENDER = "LUNGWATCH", "DEMO_SENDER"
_SETTLE_SECONDS = 2.0
_START_SECONDS = 120.0
# Longer than the supervisor waits for its children: killed itself, it could not end them.
_STOP_SECONDS = 240.0
_ARRIVAL_SECONDS = 180.0
# Without it, everything is in a folder that is gone when the message is read.
_KEEP_IT = "; add --data DIR to keep it"
_PATIENCE_SECONDS = 1800.0
_POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What the demonstration ended with.

    Attributes
    ----------
    document
        The study as `lungwatch studies show --json` tells it, without its history and with the
        demonstration's own timings beside the stages'.
    objects
        DICOM files the PACS holds, by kind: ``seg``, ``sr``, ``summary``.
    missing
        Kinds that should be there and are not.
    pacs
        Which PACS it was.
    """

    document: dict[str, Any]
    objects: Mapping[str, bytes]
    missing: tuple[str, ...]
    pacs: str


def run_demo(
    study_folder: Path, work: Path, report: Report, make_pacs: MakePacs = demo_pacs
) -> DemoOutcome:
    """Run the whole system on one study, and end it again.

    Parameters
    ----------
    study_folder
        Folder of the study.
    work
        Folder for everything the system stores.
    report
        Told the stage, and its done share where that is known.
    make_pacs
        Makes the PACS for a folder, and the node's AE title and port.

    Raises
    ------
    FolderError
        If the folder does not hold one study.
    DemoError
        If the study never arrives, or nothing moves any more.
    """
    study = find_study(study_folder)
    (node_port,) = free_ports(1)
    begun = time.monotonic()
    with ExitStack() as stack:
        report("starting the PACS", None)
        pacs = stack.enter_context(make_pacs(work / "pacs", _NODE, node_port))
        report("starting Lungwatch", None)
        overrides = _settings_of_demo(work / "lungwatch", node_port, pacs)
        settings = load_settings(**overrides)
        system = stack.enter_context(_start_system(work, overrides, node_port))
        started = time.monotonic()
        send_study(study, _first_station(pacs, settings), report)
        sent = time.monotonic()
        database = stack.enter_context(closing(Database(settings.resolved_database_url)))
        document = _wait(database, study.study_instance_uid, system, report)
        timings = document.setdefault("timings", {})
        timings["start_system"] = round(started - begun, 3)
        timings["send_study"] = round(sent - started, 3)
        timings["sent_to_delivered"] = round(time.monotonic() - sent, 3)
        return _fetch(document, pacs)


def _settings_of_demo(data_dir: Path, node_port: int, pacs: DemoPacs) -> dict[str, Any]:
    """Every setting by which a demonstration could touch a real installation."""
    return {
        "data_dir": str(data_dir.resolve()),
        "database_url": None,
        "database_password": None,
        "broker_url": None,
        "broker_password": None,
        "ae_title": _NODE,
        "listen_host": "127.0.0.1",
        "listen_port": node_port,
        "tls_certificate": None,
        "tls_key": None,
        "tls_authorities": None,
        "allowed_calling_ae_titles": f"{pacs.ae_title},{_SENDER}",
        "destinations": f"dimse://{pacs.ae_title}@127.0.0.1:{pacs.port}",
        "minimum_free_mb": 64,
        "retention_free_mb": 0,
        "settle_seconds": _SETTLE_SECONDS,
        "sweep_seconds": 1,
        "delivery_retry_seconds": 1,
    }


def _start_system(work: Path, settings: Mapping[str, Any], node_port: int) -> ServiceProcess:
    service = ServiceProcess(
        "Lungwatch",
        work / "lungwatch.log",
        start_seconds=_START_SECONDS,
        stop_seconds=_STOP_SECONDS,
    )
    # An empty variable counts as unset, so that what this shell sets for a real one is hidden.
    environment = {
        f"{PREFIX}{name.upper()}": "" if value is None else str(value)
        for name, value in settings.items()
    } | {file_variable(variable): "" for variable in secret_variables().values()}
    command = [sys.executable, "-m", "worker.cli.main", "up"]
    service.start(command, lambda: _accepts_connections(node_port), environment=environment)
    return service


def _accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _first_station(pacs: DemoPacs, settings: Settings) -> DimseDestination:
    """Where a modality would send: the PACS if it routes, else the node itself."""
    if pacs.routes:
        name, ae_title, port = pacs.name, pacs.ae_title, pacs.port
    else:
        name, ae_title, port = "Lungwatch", settings.ae_title, settings.listen_port
    return DimseDestination(
        name=name, ae_title=ae_title, host="127.0.0.1", port=port, calling_ae_title=_SENDER
    )


def _wait(
    database: Database, study_instance_uid: str, system: ServiceProcess, report: Report
) -> dict[str, Any]:
    """Wait until the study is at rest, and describe it."""
    last, since = "", time.monotonic()
    while True:
        if not system.running:
            raise DemoError(f"Lungwatch ended by itself: its log is {system.log}{_KEEP_IT}")
        with database.reading() as session:
            study = studies.by_uid(session, study_instance_uid)
            stage = _stage(study)
            if study is not None and _is_settled(study):
                document = study_document(study)
                del document["events"]
                return document
        if stage != last:
            last, since = stage, time.monotonic()
        report(stage, None)
        patience = _ARRIVAL_SECONDS if study is None else _PATIENCE_SECONDS
        if time.monotonic() - since > patience:
            raise DemoError(
                f"nothing has moved for {patience:.0f} s ({stage}); its log is {system.log}"
                f"{_KEEP_IT}"
            )
        time.sleep(_POLL_SECONDS)


def _stage(study: Study | None) -> str:
    if study is None:
        return "waiting for the study to reach the node"
    return f"{study.state.value}: {explain(study.reason).words}"


def _is_settled(study: Study) -> bool:
    """Tell whether the study will not move any more.

    A study whose first instance is no CT counts as ignored until its CT arrives.
    """
    if study.state is StudyState.IGNORED:
        return datetime.now(UTC) - study.updated_at > timedelta(seconds=5 * _SETTLE_SECONDS)
    return studies.is_at_rest(study)


def _fetch(document: dict[str, Any], pacs: DemoPacs) -> DemoOutcome:
    wanted = {entry["kind"]: entry["sop_instance_uid"] for entry in document.get("objects", [])}
    held = {kind: pacs.fetch(uid) for kind, uid in wanted.items()}
    objects = {kind: data for kind, data in held.items() if data is not None}
    missing = tuple(kind for kind in wanted if kind not in objects)
    return DemoOutcome(document, objects, missing, pacs.name)
