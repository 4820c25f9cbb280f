"""The network a worker screens with: looked at anew before each job, changed without a restart."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from worker.db import events, model_versions
from worker.versions.choice import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from model.inference import Predictor
    from model.registry import RegistryEntry
    from worker.db.engine import Database
    from worker.versions.choice import Choice

# What a version that cannot be loaded costs: one try in this time, not one for each job.
RETRY_SECONDS = 60.0

log = structlog.get_logger(__name__)


class NetworkInUse:
    """Gives the loaded network of the version in use; loads another one when that changes.

    Calling it costs one query for the highest key of a small table. A worker calls it between
    jobs, so a job ends with the network it began with.

    Parameters
    ----------
    database
        Holds the promotions, and gets a line in its log for each network loaded or not.
    choose
        Decides on the version in use.
    load
        Loads a version after checking its sha256.
    worker
        Name of this worker in the log.
    retry_seconds
        Pause after a version that could not be loaded.

    Raises
    ------
    ModelError
        If the first network cannot be loaded: there is no earlier one to go on with.
    """

    def __init__(
        self,
        database: Database,
        choose: Callable[[Session], Choice],
        load: Callable[[RegistryEntry], Predictor],
        worker: str,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._database, self._choose, self._load = database, choose, load
        self._worker, self._retry_seconds = worker, retry_seconds
        self._failed_generation = -1
        self._not_before = 0.0
        with database.reading() as session:
            self._choice = choose(session)
        self._predictor = load(self._choice.entry)
        self._tell(events.MODEL_LOADED, self._choice.generation, model=self._choice.entry.title)

    def __call__(self) -> Predictor:
        """Return the network to screen with now."""
        if self._choice.origin is Origin.PINNED:
            return self._predictor
        with self._database.reading() as session:
            generation = model_versions.generation(session)
        if generation != self._choice.generation and self._may_try(generation):
            self._pick_up(generation)
        return self._predictor

    def _may_try(self, generation: int) -> bool:
        return generation != self._failed_generation or time.monotonic() >= self._not_before

    def _pick_up(self, generation: int) -> None:
        try:
            with self._database.reading() as session:
                choice = self._choose(session)
            if choice.entry != self._choice.entry:
                self._predictor = self._load(choice.entry)
        except Exception as error:
            # Whatever is wrong with the new version, studies go on being screened by the old one.
            log.exception("model_pick_up_failed", generation=generation)
            if generation != self._failed_generation:
                self._tell(
                    events.MODEL_PICK_UP_FAILED,
                    generation,
                    kept=self._choice.entry.title,
                    error=f"{type(error).__name__}: {error}",
                )
            self._failed_generation = generation
            self._not_before = time.monotonic() + self._retry_seconds
            return
        self._choice, self._failed_generation = choice, -1
        self._tell(events.MODEL_LOADED, choice.generation, model=choice.entry.title)

    def _tell(self, event: str, generation: int, **detail: Any) -> None:  # noqa: ANN401 - passed on
        log.info(event, generation=generation, **detail)
        try:
            with self._database.transaction() as session:
                events.record(session, event, worker=self._worker, generation=generation, **detail)
        except Exception:
            # The network is loaded; that the log does not know it is no reason to stop.
            log.exception("model_event_not_recorded")


@dataclass(frozen=True, slots=True)
class PickUps:
    """What workers told since the last promotion or rollback, each its latest word.

    Attributes
    ----------
    loaded
        Title of the version that each worker loaded, by the worker's name.
    failed
        What kept a worker from it and which version it goes on with, by the worker's name.
    promoted
        Title of the version that promotions and rollbacks ended at, empty before the first.
    """

    loaded: dict[str, str]
    failed: dict[str, str]
    promoted: str


def pick_ups(session: Session) -> PickUps:
    """Tell which workers have picked up the version in use, and which could not."""
    history = model_versions.history(session)
    since = history[-1].at if history else datetime.fromtimestamp(0, UTC)
    loaded: dict[str, str] = {}
    failed: dict[str, str] = {}
    for line in events.model_loads(session, since):
        worker = line.detail["worker"]
        if worker in loaded or worker in failed:
            continue
        if line.event == events.MODEL_LOADED:
            loaded[worker] = line.detail["model"]
        else:
            failed[worker] = f"goes on with {line.detail['kept']}: {line.detail['error']}"
    promoted = model_versions.current(session)
    title = f"{promoted.name}-{promoted.version}" if promoted else ""
    return PickUps(loaded, failed, title)
