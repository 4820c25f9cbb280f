"""A whole installation whose workers and node can be killed: broker, database, node, workers."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from pydicom import dcmread
from sqlalchemy import func, select
from support.small_ct import write_small_ct

from bench.faults.kill_points import Plans
from bench.faults.load import acknowledged, send_with_pynetdicom
from bench.faults.nursery import read_journal
from bench.faults.results import REPOSITORY
from model.volume import CtVolume
from worker.db import schema
from worker.db.engine import Database
from worker.db.tables import Delivery, Event, Screening, Study
from worker.embedded.process import ServiceProcess, free_ports
from worker.embedded.valkey import EmbeddedValkey
from worker.lifecycle import AT_REST, ScreeningState, StudyEvent, StudyState
from worker.settings import PREFIX, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bench.faults.nursery import ChildEvent

_POLL_SECONDS = 0.25
_START_SECONDS = 300.0
# Threads in the parent would forbid the fork, and two cores are better used by two workers.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}


class ScreeningSite:
    """Lungwatch as it is operated, but for the nursery that starts its processes.

    Parameters
    ----------
    folder
        For everything it stores.
    roles
        What runs, names of `bench.faults.roles`.
    destination
        Where results go.
    **settings
        Settings beside the common ones.
    """

    def __init__(
        self, folder: Path, roles: tuple[str, ...], destination: str, **settings: object
    ) -> None:
        self.folder, self.roles = folder, roles
        (self.port,) = free_ports(1)
        self._broker = EmbeddedValkey(folder / "broker")
        values = {
            "data_dir": folder / "lungwatch",
            "broker_url": self._broker.url,
            "listen_host": "127.0.0.1",
            "listen_port": self.port,
            "allowed_calling_ae_titles": "STORESCU",
            "destinations": destination,
            "settle_seconds": 5,
            "minimum_free_mb": 64,
            "retention_free_mb": 0,
            **settings,
        }
        self.settings = load_settings(**values)
        self.plans = Plans(folder)
        self.database = Database(self.settings.resolved_database_url)
        environment = {PREFIX + name.upper(): str(value) for name, value in values.items()}
        self._environment = {**environment, **_ONE_THREAD, "PYTHONPATH": str(REPOSITORY)}
        self._nursery = ServiceProcess(
            "nursery", folder / "nursery.log", start_seconds=_START_SECONDS
        )
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._broker)
            schema.upgrade(self.database.engine)
            stack.callback(self.database.close)
            stack.callback(self._nursery.stop)
            self._nursery.start(
                [sys.executable, "-m", "bench.faults.nursery", self.folder, *self.roles],
                self._ready,
                cwd=REPOSITORY,
                environment=self._environment,
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def send(self, files: list[Path]) -> None:
        """Send a study, and what was not acknowledged again, as a PACS does."""
        left = files

        def sent() -> bool:
            nonlocal left
            acked = acknowledged(send_with_pynetdicom(left, self.port))
            left = [path for path in left if path not in acked]
            return not left

        if not wait_until(sent, _START_SECONDS):
            raise RuntimeError(f"{len(left)} of {len(files)} instances were never acknowledged")

    def children(self, role: str = "") -> list[ChildEvent]:
        """Tell what became of the children of a role; of all, where none is given."""
        return [event for event in read_journal(self.folder) if role in {"", event.role}]

    def living(self, role: str) -> list[int]:
        """Give the process ids of a role's living children."""
        events = self.children(role)
        ended = {event.pid for event in events if event.ended}
        return [event.pid for event in events if not event.ended and event.pid not in ended]

    def at_rest(self) -> int:
        """Count the studies that nothing more happens to."""
        with self.database.reading() as session:
            query = select(func.count()).select_from(Study).where(Study.state.in_(AT_REST))
            return session.scalar(query) or 0

    def screened(self) -> int:
        """Count the studies whose results are on their way, or there."""
        states = (StudyState.DELIVERING, StudyState.COMPLETED)
        with self.database.reading() as session:
            query = select(func.count()).select_from(Study).where(Study.state.in_(states))
            return session.scalar(query) or 0

    def wait_until_at_rest(self, count: int, seconds: float) -> bool:
        """Wait until so many studies are at rest, and tell whether they came to it."""
        return wait_until(lambda: self.at_rest() >= count, seconds)

    def unfinished(self, study_uids: Iterable[str]) -> dict[str, str]:
        """Tell of the studies that are not completed where they stand instead."""
        with self.database.reading() as session:
            rows = session.execute(select(Study.study_instance_uid, Study.state, Study.reason))
            states = {uid: (state, reason) for uid, state, reason in rows}
        found = {uid: states.get(uid, ("unknown", "")) for uid in study_uids}
        return {
            uid: f"{state} {reason}"
            for uid, (state, reason) in found.items()
            if state is not StudyState.COMPLETED
        }

    def completed_at(self, study_uid: str) -> float:
        """Tell when a study was completed, in seconds since the epoch."""
        return self._events(study_uid, StudyEvent.DELIVERED)[-1]

    def in_work_again_at(self, study_uid: str, after: float) -> float:
        """Tell when a study was taken up after a moment, or where it was not, completed."""
        claims = self._events(study_uid, StudyEvent.CLAIMED)
        return next((at for at in claims if at > after), self.completed_at(study_uid))

    def _events(self, study_uid: str, event: StudyEvent) -> list[float]:
        query = (
            select(Event.at)
            .join(Study, Event.study_id == Study.id)
            .where(Study.study_instance_uid == study_uid, Event.event == event.value)
            .order_by(Event.id)
        )
        with self.database.reading() as session:
            return [at.timestamp() for at in session.scalars(query)]

    def delivery_tries(self) -> int:
        """Count how often an object was sent, as the outbox has it."""
        with self.database.reading() as session:
            return session.scalar(select(func.sum(Delivery.attempts))) or 0

    def stuck_leases(self) -> int:
        """Count the screenings that are still held, or hold a lease though they ended."""
        with self.database.reading() as session:
            query = (
                select(func.count())
                .select_from(Screening)
                .where(
                    (Screening.state == ScreeningState.RUNNING)
                    | Screening.lease_expires_at.is_not(None)
                )
            )
            return session.scalar(query) or 0

    def result_orphans(self) -> list[str]:
        """List the files in the results folder that no result names."""
        with self.database.reading() as session:
            results = session.scalars(select(Screening.result)).all()
        named = {entry["path"] for result in results if result for entry in result["objects"]}
        folder = self.settings.results_dir
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        return sorted(found - named)

    def strays(self) -> list[int]:
        """List the processes of this site that outlived the child that started them."""
        mark = f"{PREFIX}LISTEN_PORT={self.port}".encode()
        parents = {pid: parent for pid, parent in _processes() if _marked(pid, mark)}
        return [pid for pid, parent in parents.items() if parent == 1]

    def _ready(self) -> bool:
        screens = [role for role in self.roles if not role.endswith("node")]
        if len(screens) < len(self.roles) and not _listens(self.port):
            return False
        ready = sum(
            _text(self.folder / f"{role}.log").count(" ready.") for role in dict.fromkeys(screens)
        )
        return ready >= len(screens)


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    """Wait for something to hold, and tell whether it came to that."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def write_tiny_model(root: Path) -> str:
    """Write a tiny network that finds lesions everywhere in the lungs; return its name."""
    model = _tiny_model()
    shutil.copytree(model, root / model.name)
    return model.name


@cache
def _tiny_model() -> Path:
    """Make it once, in a process of its own: the nursery must not have made tensors."""
    root = Path(tempfile.mkdtemp(prefix="lungwatch-tiny-model-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    program = (
        "import sys; from pathlib import Path; from support.networks import write_version;"
        "write_version(Path(sys.argv[1]), '1', lesion_threshold=0.0)"
    )
    subprocess.run(
        [sys.executable, "-c", program, root],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
    )
    (model,) = root.iterdir()
    return model


def write_drawn_study(folder: Path, key: str) -> tuple[str, list[Path]]:
    """Write a drawn chest of 26 small slices; return its Study Instance UID and its files."""
    paths = write_small_ct(folder, key, drawn_chest())
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID), paths


def drawn_chest() -> CtVolume:
    """Draw a body with two lungs and something in one of them, 26 slices of 96 x 96 voxels."""
    spacing = (5.0, 3.5, 3.5)
    hounsfield = np.full((26, 96, 96), -1000, np.int16)
    for centre, radii, value in (
        ((0.5, 0.5, 0.5), (60, 34, 44), 40),
        ((0.5, 0.5, 0.3), (12, 22, 14), -850),
        ((0.5, 0.5, 0.7), (12, 22, 14), -850),
        ((0.5, 0.55, 0.3), (3, 8, 6), -300),
    ):
        hounsfield[_ellipsoid(hounsfield.shape, centre, radii)] = value
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 3] = (-168.0, -168.0, -65.0)
    return CtVolume(hounsfield, spacing, affine)


def _ellipsoid(
    shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]
) -> np.ndarray:
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    axes = zip(grid, centre, shape, radii, strict=True)
    return sum(((axis - at * size) / radius) ** 2 for axis, at, size, radius in axes) <= 1


def _listens(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def _processes() -> list[tuple[int, int]]:
    """List all processes, each with its parent (proc(5), stat)."""
    return [
        (int(entry.name), int(status.rpartition(")")[2].split()[1]))
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (status := _text(entry / "stat"))
    ]


def _marked(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
