"""20,000 associations with one listener."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from support.raw_association import echo

from bench.faults.abuse import cost_at_rest, cost_of
from bench.faults.listener import ListenerProcess
from bench.faults.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from pathlib import Path

_WARM_UP = 500
_AT_ONCE = 4
_MOST_GROWTH = 1.05
_REST_SECONDS = 30.0


def run(first_trial: int, trials: int, folder: Path) -> Outcome:  # noqa: ARG001 - all alike
    """Open, C-ECHO, release; then compare what the process takes with what it took."""
    listener = ListenerProcess(folder)
    listener.start()
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answered = sum(1 for _ in pool.map(echo, [listener.port] * min(_WARM_UP, trials)))
            base = cost_at_rest(listener.pid, cost_of(listener.pid), 1.0)
            answered += sum(1 for _ in pool.map(echo, [listener.port] * trials))
        ended = time.monotonic()
        rest = cost_at_rest(listener.pid, base, _REST_SECONDS)
        recovery = time.monotonic() - ended
    finally:
        listener.stop()
    growth = rest.rss_kib / base.rss_kib
    back = rest.threads <= base.threads and rest.files <= base.files
    return Outcome(
        trials=trials,
        acknowledged=answered,
        lost=0,
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=growth <= _MOST_GROWTH and back,
        notes=f"memory {100 * (growth - 1):+.1f} %, threads {rest.threads}, files {rest.files}",
    )


SCENARIO = Scenario(
    name="soak",
    title="20,000 associations with a C-ECHO each",
    passes_if="memory grows by 5 % at most; threads and descriptors are given back",
    trials=20_000,
    short_trials=500,
    # One listener lives through all of them.
    batch=20_000,
    run=run,
)
