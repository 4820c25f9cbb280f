"""20,000 associations, one after the other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from support.certificates import Authority
from support.raw_association import echo

from bench.faults.abuse import cost_at_rest, cost_of
from bench.faults.listener import ListenerProcess
from bench.faults.scenario import Outcome, Scenario
from dicom_node.tls import client_context

if TYPE_CHECKING:
    from pathlib import Path

_WARM_UP = 500
_MOST_GROWTH = 1.05
_WITH_TLS = 4  # One batch in four.


def run(first_trial: int, trials: int, folder: Path) -> Outcome:
    """Open, C-ECHO, release; then compare what the process takes with what it took."""
    files = Authority(folder / "authority").issue("node", alternative="IP:127.0.0.1")
    with_tls = first_trial // max(trials, 1) % _WITH_TLS == _WITH_TLS - 1
    tls = client_context(files) if with_tls else None
    listener = ListenerProcess(folder, tls=files if with_tls else None)
    listener.start()
    try:
        for _ in range(min(_WARM_UP, trials)):
            echo(listener.port, tls=tls)
        base = cost_at_rest(listener.pid, cost_of(listener.pid), 1.0)
        for _ in range(trials):
            echo(listener.port, tls=tls)
        ended = time.monotonic()
        rest = cost_at_rest(listener.pid, base, 30.0)
        recovery = time.monotonic() - ended
    finally:
        listener.stop()
    growth = rest.rss_kib / base.rss_kib
    back = rest.threads <= base.threads and rest.files <= base.files
    return Outcome(
        trials=trials,
        acknowledged=trials,
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
    batch=5000,
    run=run,
)
