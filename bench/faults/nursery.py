"""Workers and nodes forked from a process that has imported everything, and forked again at once.

Importing TensorFlow takes ten seconds, which 500 kills cannot wait for. Each child is a process of
its own that runs the production entry point; only the imports are the parent's. Forking after
that is sound here alone: the parent has one thread and has made no tensor, and it makes sure of
the former before each fork.

``python -m bench.faults.nursery FOLDER ROLE...`` with settings in the environment; each role is
one child. What becomes of the children is in FOLDER/children.jsonl.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.faults import roles

Role = Callable[[Path], Callable[[], None]]

JOURNAL = "children.jsonl"
_PR_SET_PDEATHSIG = 1
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class ChildEvent:
    """One line of the journal: a child was started, or ended by a signal or with an exit code."""

    at: float
    role: str
    pid: int
    signal: int | None = None
    code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it tells of an end."""
        return self.signal is not None or self.code is not None


def read_journal(folder: Path) -> list[ChildEvent]:
    """Read what became of the children of a nursery."""
    path = folder / JOURNAL
    lines = path.read_text().splitlines() if path.exists() else []
    return [ChildEvent(**json.loads(line)) for line in lines]


class Nursery:
    """Keeps one child for each role alive.

    Parameters
    ----------
    folder
        For the journal and the children's logs.
    roles
        Names of `bench.faults.roles`, one for each child.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self._folder = folder
        self._names = names
        self._runs = {name: roles.ROLES[name](folder) for name in dict.fromkeys(names)}
        self._children: dict[int, str] = {}
        self._stopping = False

    def run(self) -> None:
        """Fork the children, and each again that ends, until SIGTERM; then kill them."""
        signal.signal(signal.SIGTERM, self._stop)
        for name in self._names:
            self._fork(name)
        while self._children:
            pid, status = os.wait()
            name = self._children.pop(pid)
            number, code = (
                (os.WTERMSIG(status), None)
                if os.WIFSIGNALED(status)
                else (None, os.WEXITSTATUS(status))
            )
            self._note(ChildEvent(time.time(), name, pid, number, code))
            time.sleep(_PAUSE_SECONDS)
            if not self._stopping:
                self._fork(name)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _fork(self, name: str) -> None:
        threads = sum(1 for _ in Path("/proc/self/task").iterdir())
        if threads != 1:
            raise RuntimeError(f"the nursery has {threads} threads and must not fork")
        pid = os.fork()
        if pid == 0:
            _become(self._folder / f"{name}.log", self._runs[name])
        self._children[pid] = name
        self._note(ChildEvent(time.time(), name, pid))

    def _note(self, event: ChildEvent) -> None:
        with (self._folder / JOURNAL).open("a") as journal:
            journal.write(json.dumps(asdict(event)) + "\n")


def _become(log: Path, run: Callable[[], None]) -> None:
    """Be a child: end with the nursery, write to a log of one's own, run, never return."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 1
    try:
        run()
        code = 0
    except BaseException:  # noqa: BLE001 - a child that returned would be a second nursery
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    Nursery(Path(sys.argv[1]), sys.argv[2:]).run()
