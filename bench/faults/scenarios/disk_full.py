"""The disk fills up during stores, to the watermark or the last byte: spool alone, or all data."""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

from bench.faults import invariants
from bench.faults.absence import QUICK
from bench.faults.counting_pacs import CountingPacs
from bench.faults.disk import small_disk
from bench.faults.listener import ListenerProcess
from bench.faults.load import (
    OUT_OF_RESOURCES,
    SENDERS,
    SUCCESS,
    acknowledged,
    send_with_pynetdicom,
    write_instances,
)
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.screening_site import (
    ScreeningSite,
    wait_until,
    write_drawn_study,
    write_tiny_model,
)

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
# Of so many trials one has a whole installation on the small disk.
_WHOLE_EVERY = 5
_WHOLE_MEBIBYTES = 48
# What one study becomes: a SEG, an SR and a summary image.
_OBJECTS = 3
_WAY_SECONDS, _FULL_SECONDS, _DONE_SECONDS = 6.0, 10.0, 120.0


def run(trials: Trials, folder: Path) -> Outcome:
    """Do each trial on a disk of its own."""
    outcomes = []
    for trial in trials.numbers:
        own = folder / str(trial)
        own.mkdir()
        whole = trial % _WHOLE_EVERY == _WHOLE_EVERY - 1
        withstand = _fill_below_everything if whole else _fill_and_make_room
        with small_disk(own / "disk", _WHOLE_MEBIBYTES if whole else _DISK_MEBIBYTES) as disk:
            outcomes.append(withstand(trial, own, disk))
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


def _fill_below_everything(trial: int, folder: Path, disk: Path) -> Outcome:
    """Fill the disk of spool, results, database and broker with one study on its way."""
    watermark = _WATERMARK if trial // _WHOLE_EVERY % 2 else 0
    (disk / "broker").mkdir()
    (folder / "broker").symlink_to(disk / "broker")
    with (
        CountingPacs() as pacs,
        ScreeningSite(
            folder,
            ("node", "worker"),
            pacs.url,
            data_dir=disk / "lungwatch",
            minimum_free_mb=watermark // _MIB,
            model_dir=folder / "models",
            model=write_tiny_model(folder / "models"),
            **QUICK,
        ) as site,
    ):
        sender = partial(send_with_pynetdicom, port=site.port)
        before_uid, before = write_drawn_study(folder / "sent" / "before", f"{trial} before")
        site.send(before)
        time.sleep(trial * _GOLDEN % 1 * _WAY_SECONDS)
        during_uid, during = write_drawn_study(folder / "sent" / "during", f"{trial} during")
        # Room for some of them, and for whatever else wants it meanwhile.
        _fill(disk, watermark + int((0.1 + trial * _GOLDEN % 1 / 3) * _size(during)))
        answers = sender(during)
        refused = [path for path in during if answers.get(path) != SUCCESS]
        time.sleep(_FULL_SECONDS)
        stored = invariants.compare(
            site.settings.spool_dir, before + during, before + acknowledged(answers)
        )
        (disk / "ballast").unlink()
        freed = time.monotonic()
        seconds = _send_until_taken(sender, refused)
        wait_until(lambda: not site.unfinished([before_uid, during_uid]), _DONE_SECONDS)
        done = time.monotonic() - freed
        unfinished = site.unfinished([before_uid, during_uid])
        wait_until(lambda: site.stuck_leases() == 0, _DONE_SECONDS)
        objects = Counter(study for study, _, _ in pacs.stored)
        everything = invariants.compare(site.settings.spool_dir, before + during, before + during)
        wrong = {
            f"answered {set(answers.values())}": not set(answers.values())
            <= {SUCCESS, OUT_OF_RESOURCES},
            "nothing was refused": not refused,
            f"{stored}": not stored.whole,
            f"{seconds:.0f} s until all was taken": seconds > _RECOVERY_SECONDS,
            f"in the end {everything}": not everything.whole,
            f"unfinished {list(unfinished.values())} after {done:.0f} s": bool(unfinished),
            f"objects per study {list(objects.values())}": {*objects.values()} != {_OBJECTS},
            f"{site.stuck_leases()} stuck leases": site.stuck_leases() > 0,
        }
    problems = [what for what, holds in wrong.items() if holds]
    return Outcome(
        trials=1,
        acknowledged=len(before) + len(during),
        lost=len(stored.lost) + len(unfinished),
        duplicated=sum(count > _OBJECTS for count in objects.values()),
        recovery_s=round(seconds, 2),
        passed=not problems,
        notes=f"trial {trial}: {'; '.join(problems)}" if problems else "",
    )


def _size(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files)


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
    title=(
        "full disk during stores, at the watermark and at the last byte, below the spool alone or "
        "below spool, results, database and broker"
    ),
    passes_if=(
        "0xA700 and never a false success; takes everything within 30 s of there being room, and "
        "a whole installation completes every study, one SEG and one SR each"
    ),
    trials=40,
    short_trials=6,
    batch=20,
    run=run,
)
