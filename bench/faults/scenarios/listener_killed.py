"""kill -9 of the listener during stores, at every place inside a store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from bench.faults import invariants
from bench.faults.listener import ListenerProcess, traced
from bench.faults.load import SENDERS, acknowledged, write_instances
from bench.faults.scenario import Outcome, Scenario, Trials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Send = Callable[[], dict[Path, int]]

_SMALL, _LARGE = 100_000, 8_000_000
_INSTANCES = 8
# Of the kills, how many may come after the last store without being noticed as a broken trap.
_LATE = 0.1
_GOLDEN = 0.618034


@dataclass(frozen=True)
class Place:
    """Where in a store the listener dies.

    Attributes
    ----------
    name
        For a person.
    system_call
        SIGKILL meets it as it enters this call ...
    which
        ... the time that this gives for the number of stores before; None: as time has it.
    instances, size
        How many are sent, and their bytes.
    """

    name: str
    system_call: str = ""
    which: Callable[[int], int] | None = None
    instances: int = _INSTANCES
    size: int = _SMALL

    def trap(self, stores_before: int) -> list[str]:
        """Give strace's options that kill there."""
        assert self.which is not None
        kill = f"inject={self.system_call}:signal=KILL:when={self.which(stores_before)}"
        return ["-o", "/dev/null", "-e", f"trace={self.system_call}", "-e", kill]


# A store is: write, fsync of the file, rename, fsync of the folder, answer. strace counts the calls
# of each thread, and an association is a thread whose first answer accepts it.
PLACES = (
    Place("before the file is written", "write", lambda before: 2 * before + 1),
    Place("while the file is written", instances=2, size=_LARGE),
    Place("before the file is synchronised", "fsync", lambda before: 2 * before + 1),
    Place("before the rename", "rename", lambda before: before + 1),
    Place("before the folder is synchronised", "fsync", lambda before: 2 * before + 2),
    Place("before the answer", "sendto", lambda before: before + 2),
    Place("somewhere", instances=40),
)


def run(trials: Trials, folder: Path) -> Outcome:
    """Kill, compare, start again; at the end send everything once more."""
    listener = ListenerProcess(folder)
    sent: list[Path] = []
    acked: list[Path] = []
    lost: set[Path] = set()
    problems: list[str] = []
    late, recovery = 0, 0.0
    for trial in trials.numbers:
        place, before = plan(trial)
        files = write_instances(folder / f"sent-{trial}", place.instances, place.size)
        sent += files
        restarted = listener.start()
        recovery = max(recovery, restarted if trial > trials.first else 0.0)
        if invariants.orphans(listener.spool):
            problems.append(f"trial {trial}: a half-written file outlived the start")
        send = partial(SENDERS[trial % len(SENDERS)], files, listener.port)
        if place.which is None:
            answers = _kill_in_time(listener, send, trial)
        else:
            answers = _kill_at(listener, send, place.trap(before))
        acked += acknowledged(answers)
        late += len(answers) == len(files)
        stored = invariants.compare(listener.spool, sent, acked)
        lost.update(stored.lost)
        if not stored.whole:
            problems.append(f"trial {trial}, {place.name}: {stored}")
    recovery = max(recovery, listener.start())
    if len(acknowledged(SENDERS[0](sent, listener.port))) < len(sent):
        problems.append("not everything could be sent again")
    listener.stop()
    if not invariants.compare(listener.spool, sent, sent).whole:
        problems.append("what was sent again is not whole")
    if late > trials.count * _LATE:
        problems.append(f"{late} of {trials.count} kills came after the last store")
    return Outcome(
        trials=trials.count,
        acknowledged=len(acked),
        lost=len(lost),
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=not problems,
        notes="; ".join(problems),
    )


def plan(trial: int) -> tuple[Place, int]:
    """Spread the trials over places and over numbers of stores before the fatal one."""
    round_, number = divmod(trial, len(PLACES))
    return PLACES[number], round_ % (_INSTANCES - 1)


def _kill_at(listener: ListenerProcess, send: Send, trap: list[str]) -> dict[Path, int]:
    with traced(listener.pid, *trap):
        answers = send()
        # Where the trap was not reached.
        listener.kill()
    return answers


def _kill_in_time(listener: ListenerProcess, send: Send, trial: int) -> dict[Path, int]:
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        while not sending.done() and not invariants.orphans(listener.spool):
            time.sleep(0.0005)
        time.sleep((trial * _GOLDEN % 1) * 0.02)
        listener.kill()
        return sending.result()


SCENARIO = Scenario(
    name="listener_killed",
    title="kill -9 of the listener during stores",
    passes_if="every acknowledged instance is stored to the byte, no torn file, no orphan",
    trials=200,
    short_trials=2 * len(PLACES),
    batch=28,
    run=run,
)
