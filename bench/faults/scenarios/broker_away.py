"""The broker is killed, emptied or stands still while studies come in and are screened."""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from support.services import RedisServer

from bench.faults.absence import QUICK, withstand
from bench.faults.counting_pacs import CountingPacs
from bench.faults.disk import frozen
from bench.faults.scenario import Scenario
from bench.faults.screening_site import ScreeningSite, write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.faults.scenario import Outcome

# Of twelve trials ten are kills.
_FAULTS = ("kill", "flush", "stand still", *["kill"] * 9)
_CYCLES = 5
_LONG_STANDSTILL = 50
_AWAY_SECONDS, _STILL_SECONDS, _LONG_SECONDS = 1.0, 10.0, 300.0
_RECOVERY_SECONDS = 60.0
_FEW_TRIALS = 3


def run(first_trial: int, trials: int, folder: Path) -> Outcome:
    """Run node and worker on a Redis of their own, and take it away in each trial."""
    broker = RedisServer(folder)
    broker.start()
    try:
        with (
            CountingPacs() as pacs,
            ScreeningSite(
                folder,
                ("node", "worker"),
                pacs.url,
                broker_url=broker.url,
                model_dir=folder / "models",
                model=write_tiny_model(folder / "models"),
                **(QUICK if trials <= _FEW_TRIALS else {}),
            ) as site,
        ):
            numbers = range(first_trial, first_trial + trials)
            return withstand(site, pacs, numbers, partial(_away, broker), _RECOVERY_SECONDS)
    finally:
        broker.stop()


@contextmanager
def _away(broker: RedisServer, trial: int) -> Iterator[None]:
    fault = _FAULTS[trial % len(_FAULTS)]
    if fault == "stand still":
        with frozen(broker.pid):
            yield
            time.sleep(_LONG_SECONDS if trial == _LONG_STANDSTILL else _STILL_SECONDS)
    elif fault == "flush":
        broker.empty()
        yield
    else:
        broker.kill()
        yield
        time.sleep(_AWAY_SECONDS)
        broker.start()


SCENARIO = Scenario(
    name="broker_away",
    title="Redis killed, emptied (FLUSHALL) or stopped (SIGSTOP, once for 5 minutes)",
    passes_if=(
        "every C-STORE accepted meanwhile, every study completed within 60 s of the broker's "
        "return, one SEG and one SR each"
    ),
    trials=_CYCLES * len(_FAULTS),
    short_trials=_FEW_TRIALS,
    batch=len(_FAULTS),
    run=run,
)
