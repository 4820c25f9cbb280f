"""SIGKILL inside a chosen stage of a chosen study, after a chosen share of that stage.

Wraps production functions, in the processes of the harness alone. A study that is to be hit has a
plan, a file in FOLDER/plans; the process that works on it kills itself when the time has come, at
the latest as the stage ends. The plan's new name tells that it was carried out, its ctime when.
"""

# The inside of a stage is private to the product, and here is where it is taken apart.
# ruff: noqa: SLF001

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery.worker.request import Request

from model import inference
from worker.db import deliveries, results, screenings
from worker.delivery import outbox
from worker.screening import job, screening

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from worker.db.screenings import Claim

SCREENING_STAGES = (
    "received",
    "claimed",
    "reading",
    "lungs",
    "network",
    "encoding",
    "writing_seg",
    "writing_sr",
    "recording",
    "acknowledging",
)
STAGES = (*SCREENING_STAGES, "delivering")

_DURATIONS = "durations.jsonl"
_UNKNOWN_SECONDS = 0.01
# Starting the thread that kills, its sleep and its turn take about a millisecond, more on a busy
# machine: within stages shorter than this it is chance where its kill falls.
AIMABLE_SECONDS = 0.005


@dataclass(frozen=True)
class Plan:
    """Where the process dies that works on a study."""

    stage: str
    share: float


class Plans:
    """The plans of a site, and which of them were carried out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "plans"
        self._folder.mkdir(parents=True, exist_ok=True)

    def add(self, study_uid: str, plan: Plan) -> None:
        """Plan a kill."""
        path = self._path(study_uid)
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps([plan.stage, plan.share]))
        temporary.rename(path)

    def get(self, study_uid: str) -> Plan | None:
        """Return the plan for a study, None where there is none or it was carried out."""
        try:
            return Plan(*json.loads(self._path(study_uid).read_text()))
        except FileNotFoundError:
            return None

    def carry_out(self, study_uid: str, *, inside: bool) -> None:
        """Note the plan as carried out, and kill this process."""
        path = self._path(study_uid)
        path.rename(path.with_suffix(".inside" if inside else ".end"))
        os.kill(os.getpid(), signal.SIGKILL)

    def carried_out(self, study_uid: str) -> tuple[float, bool] | None:
        """Tell when a plan was carried out and whether inside its stage, not at its end."""
        path = self._path(study_uid)
        for suffix, inside in ((".inside", True), (".end", False)):
            if (done := path.with_suffix(suffix)).exists():
                return done.stat().st_ctime, inside
        return None

    def _path(self, study_uid: str) -> Path:
        return self._folder / f"{hashlib.sha256(study_uid.encode()).hexdigest()[:32]}.plan"


def tally(
    plans: Mapping[str, Plan], kills: Mapping[str, tuple[float, bool] | None], folder: Path
) -> dict[str, tuple[int, int]]:
    """Count the kills of each stage that lasts long enough to be aimed at.

    Parameters
    ----------
    plans, kills
        What was planned and what became of it, as `Plans.carried_out` tells, by study.
    folder
        With the seconds that the stages took.

    Returns
    -------
    dict
        For each such stage, how many kills lay inside, and how many there were.
    """
    took: dict[str, list[float]] = {}
    for stage, _, seconds in _durations(folder):
        took.setdefault(stage, []).append(seconds)
    long = {stage for stage, each in took.items() if statistics.median(each) >= AIMABLE_SECONDS}
    counts: dict[str, tuple[int, int]] = {}
    for uid, kill in kills.items():
        stage = plans[uid].stage
        if kill is not None and stage in long:
            inside, all_ = counts.get(stage, (0, 0))
            counts[stage] = (inside + kill[1], all_ + 1)
    return counts


class KillPoints:
    """Where the process is in its work on one study; carries out the plan for that.

    Parameters
    ----------
    folder
        With the plans, and for the seconds each stage took, from which a share of it is told.
    """

    def __init__(self, folder: Path) -> None:
        self._plans = Plans(folder)
        self._folder = folder
        self._passed: set[str] = set()
        self._study_uid = ""
        self._plan: Plan | None = None
        self._stage: str | None = None
        self._since = 0.0

    def begin(self, study_uid: str) -> None:
        """Begin the work on a study."""
        self._study_uid, self._plan, self._stage = study_uid, self._plans.get(study_uid), None

    def forget(self) -> None:
        """End where no stage ended: there was nothing to do."""
        self._study_uid, self._plan, self._stage = "", None, None

    def at(self, stage: str | None) -> None:
        """Leave the stage before and enter this one; None: what comes is no stage."""
        if not self._study_uid:
            return
        left, now = self._stage, time.perf_counter()
        if left is not None:
            if self._plan is not None and self._plan.stage == left:
                self._plans.carry_out(self._study_uid, inside=False)
            with (self._folder / _DURATIONS).open("a") as file:
                file.write(json.dumps([left, left in self._passed, now - self._since]) + "\n")
            self._passed.add(left)
        self._stage = stage
        if stage is not None and self._plan is not None and self._plan.stage == stage:
            delay = self._plan.share * self._expected(stage)
            victim = (self._study_uid, delay)
            threading.Thread(target=self._kill_after, args=victim, daemon=True).start()
        self._since = time.perf_counter()

    def during(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function that is a stage."""

        def wrapped(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - passed on
            self.at(stage)
            try:
                return function(*arguments, **options)
            finally:
                self.at(None)

        return wrapped

    def _kill_after(self, study_uid: str, seconds: float) -> None:
        time.sleep(seconds)
        self._plans.carry_out(study_uid, inside=True)

    def _expected(self, stage: str) -> float:
        """Tell what a stage takes at least, mostly: past its end nothing is hit inside.

        The first time takes a process longer, for the network ten times.
        """
        again = stage in self._passed
        known = [entry for entry in _durations(self._folder) if entry[0] == stage]
        alike = [seconds for _, repeated, seconds in known if repeated is again]
        seconds = sorted(alike or [seconds for *_, seconds in known])
        return seconds[len(seconds) // 4] if seconds else _UNKNOWN_SECONDS


def _durations(folder: Path) -> list[tuple[str, bool, float]]:
    """Read how long stages took: each with whether its process had been through it before."""
    path = folder / _DURATIONS
    lines = path.read_text().splitlines() if path.exists() else []
    return [(stage, again, seconds) for stage, again, seconds in map(json.loads, lines)]


def install_in_worker(folder: Path) -> None:
    """Wrap what a worker does with a message, stage by stage."""
    # Otherwise the thread that kills could wait 5 ms for its turn, longer than some stages take.
    sys.setswitchinterval(0.0001)
    points = KillPoints(folder)
    run, heartbeat = job.ScreeningJob.run, job._Heartbeat.__enter__
    claim, store, record = screenings.claim, job.ScreeningJob._store, job.ScreeningJob._record
    record_success, acknowledge = results.record_success, Request.acknowledge

    def received(session: Session, screening_id: int, *arguments: Any) -> Claim | None:  # noqa: ANN401 - passed on
        points.begin(screenings.get(session, screening_id).study.study_instance_uid)
        points.at("received")
        claimed = claim(session, screening_id, *arguments)
        if claimed is None:
            points.forget()
        return claimed

    def done(self: job.ScreeningJob, named: int) -> None:
        run(self, named)
        points.at("acknowledging")

    def claimed(self: job._Heartbeat) -> None:
        points.at("claimed")
        heartbeat(self)

    def writing(self: job.ScreeningJob, *arguments: Any) -> str:  # noqa: ANN401 - passed on
        kind = arguments[1].kind
        return str(points.during(f"writing_{kind}", store)(self, *arguments))

    def recording(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - passed on
        points.at("recording")
        record_success(*arguments, **options)

    def recorded(self: job.ScreeningJob, *arguments: Any) -> None:  # noqa: ANN401 - passed on
        record(self, *arguments)
        points.at(None)

    def acknowledged(self: Request) -> None:
        acknowledge(self)
        points.at(None)
        points.forget()

    screenings.claim = received
    job.ScreeningJob.run = done
    job._Heartbeat.__enter__ = claimed
    job.read_ct_series = points.during("reading", job.read_ct_series)
    inference.find_lungs = points.during("lungs", inference.find_lungs)
    inference.Predictor._run_network = points.during("network", inference.Predictor._run_network)
    screening.encode_result = points.during("encoding", screening.encode_result)
    job.ScreeningJob._store = writing
    results.record_success = recording
    job.ScreeningJob._record = recorded
    Request.acknowledge = acknowledged


def install_in_node(folder: Path) -> None:
    """Wrap what a node does with the result of one screening: take it, send it, record that."""
    sys.setswitchinterval(0.0001)
    points = KillPoints(folder)
    take_due, one_round = deliveries.take_due, outbox.Deliverer._round

    def taken(*arguments: Any) -> Any:  # noqa: ANN401 - passed on
        due = take_due(*arguments)
        if due:
            points.begin(due[0].screening.study.study_instance_uid)
            points.at("delivering")
        return due

    def round_(self: outbox.Deliverer, *arguments: Any) -> int:  # noqa: ANN401 - passed on
        count = one_round(self, *arguments)
        points.at(None)
        points.forget()
        return int(count)

    deliveries.take_due = taken
    outbox.Deliverer._round = round_
