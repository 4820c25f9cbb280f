"""The broker is killed, emptied or stands still while studies come in and are screened."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING

import redis
import structlog
from support.services import RedisServer
from support.study_rows import queued_screening

from bench.faults.absence import QUICK, withstand
from bench.faults.counting_pacs import CountingPacs
from bench.faults.disk import frozen
from bench.faults.scenario import Outcome, Scenario, Trials
from bench.faults.screening_site import ScreeningSite, wait_until, write_tiny_model
from worker.app import SCREENING_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

# Of fourteen trials eleven are kills.
_FAULTS = ("kill", "flush", "stand still", "flush a long queue", *["kill"] * 10)
_CYCLES = 5
_LONG_STANDSTILL = 44
_AWAY_SECONDS, _STILL_SECONDS, _LONG_SECONDS = 1.0, 10.0, 300.0
_RECOVERY_SECONDS = 60.0
_WAITING, _LONG_QUEUE = 120, 100
_FILL_SECONDS, _REST_SECONDS = 120.0, 240.0


def run(trials: Trials, folder: Path) -> Outcome:
    """Run node and worker on a Redis of their own, and take it away in each trial."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    quick = QUICK if trials.short else {}
    long = [number for number in trials.numbers if _fault(number) == "flush a long queue"]
    others = [number for number in trials.numbers if number not in long]
    outcomes = [_with_studies(others, folder / "studies", quick)] if others else []
    outcomes += [_with_long_queue(each, folder / f"queue-{each}", quick) for each in long]
    return reduce(add, outcomes)


def _fault(trial: int) -> str:
    return _FAULTS[trial % len(_FAULTS)]


@contextmanager
def _redis(folder: Path) -> Iterator[RedisServer]:
    folder.mkdir()
    broker = RedisServer(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _with_studies(trials: list[int], folder: Path, quick: Mapping[str, float]) -> Outcome:
    """Take the broker away while studies come in and are screened."""
    with (
        _redis(folder) as broker,
        CountingPacs() as pacs,
        ScreeningSite(
            folder,
            ("node", "worker"),
            pacs.url,
            broker_url=broker.url,
            model_dir=folder / "models",
            model=write_tiny_model(folder / "models"),
            **quick,
        ) as site,
    ):
        return withstand(site, pacs, trials, partial(_away, broker), _RECOVERY_SECONDS)


@contextmanager
def _away(broker: RedisServer, trial: int) -> Iterator[float]:
    fault = _fault(trial)
    if fault == "stand still":
        with frozen(broker.pid):
            yield _LONG_SECONDS if trial == _LONG_STANDSTILL else _STILL_SECONDS
    elif fault == "flush":
        broker.empty()
        yield 0.0
    else:
        broker.kill()
        yield _AWAY_SECONDS
        broker.start()


def _with_long_queue(trial: int, folder: Path, quick: Mapping[str, float]) -> Outcome:
    """Empty the broker while jobs stand in a long queue, since their worker stands still."""
    uids = [f"1.2.826.0.3.{trial}.{number}" for number in range(_WAITING)]
    roles = ("node", "cheap_worker")
    with (
        _redis(folder) as broker,
        CountingPacs() as pacs,
        ScreeningSite(folder, roles, pacs.url, broker_url=broker.url, **quick) as site,
    ):
        with frozen(site.living("cheap_worker")[0]):
            with site.database.transaction() as session:
                for uid in uids:
                    queued_screening(session, uid)
            wait_until(lambda: _waiting(broker) >= _LONG_QUEUE, _FILL_SECONDS)
            waited = _waiting(broker)
            broker.empty()
        emptied = time.monotonic()
        site.wait_until_at_rest(len(uids), _REST_SECONDS)
        recovery = time.monotonic() - emptied
        unfinished = site.unfinished(uids)
        wait_until(lambda: site.stuck_leases() == 0, _REST_SECONDS)
        objects = Counter(study for study, _, _ in pacs.stored)
        again = sum(times > 1 for times in pacs.stored.values())
        wrong = {
            f"{len(unfinished)} not completed": bool(unfinished),
            f"objects per study: {set(objects.values())}": {objects[uid] for uid in uids} != {2},
            f"{again} objects sent twice": again > 0,
            f"only {waited} jobs were in the queue": waited < _LONG_QUEUE,
            f"{recovery:.0f} s until everything was done": recovery > _RECOVERY_SECONDS,
            f"{site.stuck_leases()} stuck leases": site.stuck_leases() > 0,
        }
    problems = [what for what, holds in wrong.items() if holds]
    return Outcome(
        trials=1,
        acknowledged=len(uids),
        lost=len(unfinished),
        duplicated=max(again, sum(objects[uid] > 2 for uid in uids)),
        recovery_s=round(recovery, 1),
        passed=not problems,
        notes=f"trial {trial}: {'; '.join(problems)}" if problems else "",
    )


def _waiting(broker: RedisServer) -> int:
    """Count the messages that wait for a worker."""
    with redis.Redis.from_url(broker.url) as client:
        return int(client.llen(SCREENING_QUEUE))


SCENARIO = Scenario(
    name="broker_away",
    title=(
        "Redis killed, emptied (FLUSHALL, also with 100 jobs and more in the queue) or stopped "
        "(SIGSTOP, once for 5 minutes), with studies coming in throughout"
    ),
    passes_if=(
        "every C-STORE accepted meanwhile, every study completed within 60 s of the broker's "
        "return, one SEG and one SR each"
    ),
    trials=_CYCLES * len(_FAULTS),
    short_trials=4,
    batch=len(_FAULTS),
    run=run,
)
