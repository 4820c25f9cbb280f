"""A child process with a log file, a readiness check and an orderly end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from worker.embedded.errors import EmbeddedServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_POLL_SECONDS = 0.05
_LOG_TAIL_LINES = 15


class ServiceProcess:
    """One service as a child process in a session of its own.

    The own session keeps a Ctrl-C at the terminal from reaching the service before the parts
    that still need it have stopped.

    Parameters
    ----------
    name
        What messages call it.
    log
        File that takes its standard output and error, appended.
    start_seconds
        How long it may take until it is ready.
    stop_seconds
        How long it may take to end in good order, before SIGKILL.
    stop_signal
        What asks it to end in good order.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        start_seconds: float = 30.0,
        stop_seconds: float = 15.0,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running service.

        Raises
        ------
        EmbeddedServiceError
            It was not started.
        """
        if self._process is None:
            raise EmbeddedServiceError(f"{self.name} is not running: start it first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def start(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the command and wait until `ready` says True.

        Parameters
        ----------
        command
            Argument list.
        ready
            Asked again and again; False means not yet.
        cwd
            Working folder.
        environment
            Variables on top of this process's own.

        Raises
        ------
        EmbeddedServiceError
            It ended at once or was not ready in time; the message ends with its last log lines.
        """
        if self.running:
            raise EmbeddedServiceError(f"{self.name} is already running as process {self.pid}")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._start_seconds
        while not ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                what = "is not ready in time" if code is None else f"ended with exit code {code}"
                raise EmbeddedServiceError(
                    f"{self.name} {what}; the end of {self.log}:\n{self._log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it in good order, by SIGKILL when that takes too long. Safe to call twice."""
        if self._process is None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, nothing flushed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


def free_ports(count: int) -> list[int]:
    """TCP ports of this machine that are free now, all different.

    Parameters
    ----------
    count
        How many.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
