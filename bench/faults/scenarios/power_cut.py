"""The power goes while the listener stores: what the device holds then is mounted and compared.

Beside the listener runs `python -m bench.faults.scenarios.power_cut SPOOL`, which moves what was
stored to its study, as the intake does.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bench.faults import invariants
from bench.faults.disk import LoopDisk, frozen
from bench.faults.listener import ListenerProcess
from bench.faults.load import SENDERS, acknowledged, write_instances
from bench.faults.results import REPOSITORY
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.receiving.spool import Spool
from worker.embedded.process import ServiceProcess

if TYPE_CHECKING:
    from concurrent.futures import Future

_INSTANCES = 12
_SIZE = 60_000
_MEBIBYTES = 64
# Longer than an answer takes from the listener to the sender's record.
_ANSWER_SECONDS = 0.05
# About as long as a store takes.
_STORE_SECONDS = 0.006
_GOLDEN = 0.618034
_MOVING = "moving"


def run(trials: Trials, folder: Path) -> Outcome:
    """Store without end, and cut the power of a copy of the disk again and again."""
    disk = LoopDisk(folder, _MEBIBYTES)
    listener = ListenerProcess(folder, spool=disk.root / "spool")
    log = folder / "mover.log"
    mover = ServiceProcess("mover", log)
    sent: list[Path] = []
    acked: list[Path] = []
    problems: list[str] = []
    lost, recovery = 0, 0.0
    with disk.mounted():
        listener.start()
        try:
            mover.start(
                [sys.executable, "-m", __name__, listener.spool],
                lambda: _MOVING in log.read_text(),
                cwd=REPOSITORY,
            )
            for trial in trials.numbers:
                files = write_instances(folder / f"sent-{trial}", _INSTANCES, _SIZE)
                sent += files
                answers: dict[Path, int] = {}
                with ThreadPoolExecutor(1) as pool:
                    sender = SENDERS[trial % len(SENDERS)]
                    sending = pool.submit(sender, files, listener.port, answers)
                    _wait_for_the_moment(trial, sending, answers)
                    with frozen(mover.pid), frozen(listener.pid):
                        time.sleep(_ANSWER_SECONDS)
                        promised = acked + acknowledged(dict(answers))
                        with disk.after_power_cut(folder / f"cut-{trial}") as root:
                            stored = invariants.compare(root / "spool", sent, promised)
                            recovery = max(recovery, _come_back(folder, root / "spool", problems))
                    acked += acknowledged(sending.result())
                lost += len(stored.lost)
                if not stored.whole:
                    problems.append(f"trial {trial}: {stored}")
        finally:
            mover.stop()
            listener.stop()
        if not any((listener.spool / "studies").rglob("*.dcm")):
            problems.append("nothing was moved")
    return Outcome(
        trials=trials.count,
        acknowledged=len(acked),
        lost=lost,
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=not problems,
        notes="; ".join(problems),
    )


def _wait_for_the_moment(
    trial: int, sending: Future[dict[Path, int]], answers: dict[Path, int]
) -> None:
    """Spread the cuts over the instances, and over the length of one store."""
    while len(answers) < trial % (_INSTANCES - 1) and not sending.done():
        time.sleep(0.0002)
    time.sleep(trial * _GOLDEN % 1 * _STORE_SECONDS)


def _come_back(folder: Path, spool: Path, problems: list[str]) -> float:
    """Start on what is left; only a listener that never wrote anything finds no spool."""
    listener = ListenerProcess(folder, spool=spool)
    seconds = listener.start()
    if orphans := invariants.orphans(spool):
        problems.append(f"{len(orphans)} half-written files outlived the start")
    listener.kill()
    return seconds


def move_without_end(spool: Spool) -> None:
    """Move every stored instance to its study; they are all of one here."""
    print(_MOVING, flush=True)
    while True:
        for path in spool.inbox():
            spool.file_into_study(path, "1.2.3", path.stem, spool.digest_of(path))
        time.sleep(_STORE_SECONDS)


SCENARIO = Scenario(
    name="power_cut",
    title=(
        "power cut while instances are stored and moved from the inbox to their study, on a "
        "loop-mounted ext4"
    ),
    passes_if="every acknowledged instance is stored to the byte, no torn file, no orphan",
    trials=100,
    short_trials=10,
    batch=20,
    run=run,
)

if __name__ == "__main__":
    move_without_end(Spool(Path(sys.argv[1])))
