"""The disk fills up while the listener stores, up to the watermark or to the last byte."""

from __future__ import annotations

import os
import time
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

from bench.faults import invariants
from bench.faults.disk import small_disk
from bench.faults.listener import ListenerProcess
from bench.faults.load import (
    OUT_OF_RESOURCES,
    SENDERS,
    SUCCESS,
    acknowledged,
    write_instances,
)
from bench.faults.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MIB = 1024**2
_DISK_MEBIBYTES = 8
_WATERMARK = 2 * _MIB
_INSTANCES = 12
_SIZE = 200_000
_RECOVERY_SECONDS = 30.0
_GOLDEN = 0.618034


def run(first_trial: int, trials: int, folder: Path) -> Outcome:
    """Do each trial on a disk of its own."""
    outcomes = []
    for trial in range(first_trial, first_trial + trials):
        own = folder / str(trial)
        own.mkdir()
        with small_disk(own / "disk", _DISK_MEBIBYTES) as disk:
            outcomes.append(_fill_and_make_room(trial, own, disk))
    return reduce(add, outcomes)


def _fill_and_make_room(trial: int, folder: Path, disk: Path) -> Outcome:
    """Fill the disk, send, make room, and send again what was refused."""
    files = write_instances(folder / "sent", _INSTANCES, _SIZE)
    # Last byte and watermark take turns, each with both senders.
    watermark = _WATERMARK if trial % 2 else 0
    sender = SENDERS[trial // 2 % len(SENDERS)]
    listener = ListenerProcess(folder, spool=disk / "spool", minimum_free_bytes=watermark)
    listener.start()
    try:
        # Room for one instance at least, and for half of them at most.
        _fill(disk, watermark + int((1.5 + trial * _GOLDEN % 1 * _INSTANCES / 3) * _SIZE))
        answers = sender(files, listener.port)
        refused = [path for path in files if answers.get(path) != SUCCESS]
        stored = invariants.compare(listener.spool, files, acknowledged(answers))
        orphans = invariants.orphans(listener.spool)
        (disk / "ballast").unlink()
        seconds = _send_until_taken(partial(sender, port=listener.port), refused)
        everything = invariants.compare(listener.spool, files, files)
    finally:
        listener.stop()
    wrong = {
        f"answered {answers.values()}": set(answers.values()) != {SUCCESS, OUT_OF_RESOURCES},
        f"{len(answers)} answers": len(answers) < len(files),
        f"{stored}": not stored.whole,
        f"{len(orphans)} half-written files": bool(orphans),
        f"{seconds:.0f} s until all was taken": seconds > _RECOVERY_SECONDS,
        f"in the end {everything}": not everything.whole,
    }
    problems = [what for what, holds in wrong.items() if holds]
    return Outcome(
        trials=1,
        acknowledged=len(files),
        lost=len(stored.lost),
        duplicated=0,
        recovery_s=round(seconds, 2),
        passed=not problems,
        notes=f"trial {trial}: {'; '.join(problems)}" if problems else "",
    )


def _fill(disk: Path, leave: int) -> None:
    """Write a file that leaves so many bytes, about."""
    figures = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(figures.f_bavail * figures.f_frsize - leave))


def _send_until_taken(send: Callable[[list[Path]], dict[Path, int]], files: list[Path]) -> float:
    """Send as senders do, again and again, and tell after how many seconds all was taken."""
    started = time.monotonic()
    left = files
    while left and time.monotonic() - started < 2 * _RECOVERY_SECONDS:
        answers = send(left)
        left = [path for path in left if answers.get(path) != SUCCESS]
    return time.monotonic() - started


SCENARIO = Scenario(
    name="disk_full",
    title="full disk during stores, at the watermark and at the last byte",
    passes_if="0xA700 and never a false success; takes everything within 30 s of there being room",
    trials=40,
    short_trials=6,
    batch=20,
    run=run,
)
