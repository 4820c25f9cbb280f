"""kill -9 of listener, worker and broker below `lungwatch up`, with the shipped network."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from support.system import System, wait_until

from bench.faults.load import SENDERS, SUCCESS
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.screening_site import write_drawn_study
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from pathlib import Path

    from support.system import Progress

_PARTS = ("listener", "worker", "broker")
_RECEIVING_SECONDS, _SCREENING_SECONDS = 0.1, 2.0
_BEFORE_KILL = 5
# A second result would follow within the lease, a sweep and a screening.
_SETTLED_SECONDS = 4
_RECOVERY_SECONDS = 120.0
_GOLDEN = 0.618034


def run(trials: Trials, folder: Path) -> Outcome:
    """Kill each part once in each trial, while a study of its own is with it."""
    problems: list[str] = []
    lost = doubled = 0
    recovery = 0.0
    with System(folder) as system:
        for trial in trials.numbers:
            ends: dict[str, Progress] = {}
            for part in _PARTS:
                name = f"{part}-{trial}"
                study_uid, files = write_drawn_study(folder / "sent" / name, name)
                killed = _KILLS[part](system, study_uid, files, trial * _GOLDEN % 1)
                ends[study_uid] = system.wait_for_state(study_uid)
                recovery = max(recovery, time.monotonic() - killed)
            time.sleep(_SETTLED_SECONDS)
            for part, (study_uid, reached) in zip(_PARTS, ends.items(), strict=True):
                lesions = bool(system.show(study_uid)["lesions"])
                counts = {what: len(held) for what, held in system.results(study_uid).items()}
                lost += reached.state is not StudyState.COMPLETED
                doubled += max(counts.values()) > 1
                if reached.state is not StudyState.COMPLETED or counts != {
                    "SEG": int(lesions),
                    "SR": 1,
                    "OT": 1,
                }:
                    problems.append(f"{part}-{trial}: {reached.state} {reached.reason}, {counts}")
    if recovery > _RECOVERY_SECONDS:
        problems.append(f"a study took {recovery:.0f} s from the kill to its completion")
    return Outcome(
        trials=trials.count,
        acknowledged=trials.count * len(_PARTS),
        lost=lost,
        duplicated=doubled,
        recovery_s=round(recovery, 1),
        passed=not problems,
        notes="; ".join(problems),
    )


def _kill_listener(system: System, _: str, files: list[Path], fraction: float) -> float:
    """Kill it in the middle of a series, and send everything again as senders do."""
    spool = system.settings.spool_dir
    before = _stored(spool)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(SENDERS[0], files, system.port)
        while _stored(spool) < before + _BEFORE_KILL and not sending.done():
            time.sleep(0.002)
        time.sleep(fraction * _RECEIVING_SECONDS)
        killed = _kill(*system.pids("node"))
        sending.result()
    wait_until("the listener to be back", system.listens)
    answers = SENDERS[0](files, system.port)
    if [answers.get(path) for path in files] != [SUCCESS] * len(files):
        raise AssertionError("not everything could be sent again")
    return killed


def _kill_worker(system: System, study_uid: str, files: list[Path], fraction: float) -> float:
    _screen(system, study_uid, files, fraction)
    return _kill(*system.pids("worker"))


def _kill_broker(system: System, study_uid: str, files: list[Path], fraction: float) -> float:
    _screen(system, study_uid, files, fraction)
    return _kill(system.broker_pid())


def _screen(system: System, study_uid: str, files: list[Path], fraction: float) -> None:
    SENDERS[1](files, system.port)
    system.wait_for_state(study_uid, StudyState.SCREENING)
    time.sleep(fraction * _SCREENING_SECONDS)


def _kill(pid: int) -> float:
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def _stored(spool: Path) -> int:
    return sum(1 for _ in spool.rglob("*.dcm"))


_KILLS = {"listener": _kill_listener, "worker": _kill_worker, "broker": _kill_broker}

SCENARIO = Scenario(
    name="parts_killed",
    title="kill -9 of listener, worker and broker below `lungwatch up`, once each in a trial",
    passes_if="every study completed within 120 s of the kill, one SR and one SEG if any each",
    trials=10,
    short_trials=1,
    batch=5,
    run=run,
)
