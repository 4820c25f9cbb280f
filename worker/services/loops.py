"""Background loops of a node: each does its round again and again, whatever goes wrong in one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)


class Loop:
    """A thread that runs a function again and again.

    An exception ends the round, not the loop: database and broker go and come back, and what a
    round did not finish the next one finds again.

    Parameters
    ----------
    name
        For the log.
    run_once
        One round; returns how much it did. The next round follows at once while there was work.
    pause_seconds
        Pause after a round without work, which `wake` ends early, or with an error, which it does
        not: while the database is away each instance that comes would only fail once more.
    """

    def __init__(self, name: str, run_once: Callable[[], int], pause_seconds: float) -> None:
        self._name = name
        self._run_once = run_once
        self._pause_seconds = pause_seconds
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Begin the next round now."""
        self._wake.set()

    def stop(self, timeout: float | None = None) -> None:
        """End after the current round and wait for that; never started, it has none."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                done = self._run_once()
            except Exception as error:
                log.exception("loop_round_failed", loop=self._name, error=type(error).__name__)
                self._stopping.wait(self._pause_seconds)
                continue
            if not done and not self._stopping.is_set():
                self._wake.wait(self._pause_seconds)
