"""Child processes that belong together: started, restarted when they die, stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_POLL_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0

_SUPERVISED = "LUNGWATCH_SUPERVISED"

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Child:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause: float = field(default=_FIRST_PAUSE_SECONDS)

    def start(self) -> None:
        # A session of its own: Ctrl-C reaches the supervisor alone, which stops all in order.
        # The pipe on its standard input closes when the supervisor is gone, however that came.
        self.process = subprocess.Popen(
            self.command,
            env={**self.environment, _SUPERVISED: "1"},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self.started_at = time.monotonic()
        log.info("child_started", child=self.name, pid=self.process.pid)

    def postpone(self) -> None:
        self.restart_at = time.monotonic() + self.pause
        self.pause = min(2 * self.pause, _LONGEST_PAUSE_SECONDS)

    def stop(self, timeout: float) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.warning("child_killed", child=self.name)
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Keeps child processes alive until told to stop.

    A child that ends is started again after a pause that doubles up to half a minute; one that
    ran for a minute starts afresh with the shortest.

    Parameters
    ----------
    tend
        Called at every look at the children, for services that are kept alive in another way. What
        it raises is logged, and it is called again after the pauses of a child that ends.
    """

    def __init__(self, tend: Callable[[], None] | None = None) -> None:
        self._children: list[_Child] = []
        self._stopping = threading.Event()
        self._tend = tend
        self._tend_at = 0.0
        self._tend_pause = _FIRST_PAUSE_SECONDS

    def add(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Add a child; children stop in the order in which they were added."""
        self._children.append(_Child(name, command, environment))

    def stop(self) -> None:
        """Ask `run` to return; safe in a signal handler and from another thread."""
        self._stopping.set()

    def run(self, stop_timeout: float = 75.0) -> None:
        """Start the children and look after them until `stop`; then stop them in order."""
        try:
            while not self._stopping.wait(_POLL_SECONDS):
                self._tend_others()
                for child in self._children:
                    self._look_after(child)
        finally:
            for child in self._children:
                child.stop(stop_timeout)

    def _tend_others(self) -> None:
        if self._tend is None or time.monotonic() < self._tend_at:
            return
        try:
            self._tend()
        except Exception:
            # A full disk keeps a broker from starting; the listener goes on meanwhile.
            log.exception("tending_failed", again_in=self._tend_pause)
            self._tend_at = time.monotonic() + self._tend_pause
            self._tend_pause = min(2 * self._tend_pause, _LONGEST_PAUSE_SECONDS)
        else:
            self._tend_pause = _FIRST_PAUSE_SECONDS

    def _look_after(self, child: _Child) -> None:
        if child.process is not None:
            code = child.process.poll()
            if code is None:
                return
            child.process = None
            if time.monotonic() - child.started_at > _HEALTHY_SECONDS:
                child.pause = _FIRST_PAUSE_SECONDS
            log.error("child_ended", child=child.name, code=code, restart_in=child.pause)
            child.postpone()
        elif time.monotonic() >= child.restart_at:
            try:
                child.start()
            except OSError:
                # No memory for another process: the others go on, and this one tries again.
                log.exception("child_not_started", child=child.name, again_in=child.pause)
                child.postpone()


def run_until_signal(supervisor: Supervisor) -> None:
    """Run a supervisor until SIGINT or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()


def end_with_supervisor() -> None:
    """In a supervised child: end in good order when the supervisor is gone, even by a kill."""
    if os.environ.pop(_SUPERVISED, None) is None:
        return

    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor", daemon=True).start()
