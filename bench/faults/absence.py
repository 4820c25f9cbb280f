"""A service that a whole installation needs goes away and comes back, with studies on their way."""

from __future__ import annotations

import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING

from bench.faults import invariants
from bench.faults.load import acknowledged, send_with_pynetdicom
from bench.faults.scenario import Outcome
from bench.faults.screening_site import wait_until, write_drawn_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from bench.faults.counting_pacs import CountingPacs
    from bench.faults.screening_site import ScreeningSite

# What one study becomes: a SEG, an SR and a summary image.
_OBJECTS = 3
# About as long as it takes from the last instance to the delivered result.
_WAY_SECONDS = 6.0
_ANSWER_SECONDS = 10.0
_REST_SECONDS = 240.0
_GOLDEN = 0.618034
# How often a study comes during an absence. No more than thirty: to screen what waited shall not
# take longer than the service's return is given.
_BETWEEN_SECONDS, _MOST_DURING = 3.0, 30
# A short run does not wait for the leases and repetitions that installations have.
QUICK = {"lease_seconds": 4, "sweep_seconds": 0.5, "republish_seconds": 4, "settle_seconds": 1}


def withstand(
    site: ScreeningSite,
    pacs: CountingPacs,
    trials: Sequence[int],
    away: Callable[[int], AbstractContextManager[float]],
    recovery_seconds: float,
) -> Outcome:
    """Send a study before each absence, anywhere on its way when it begins, and others during it.

    Parameters
    ----------
    site, pacs
        The running installation, and where its results go.
    trials
        Numbers of the trials.
    away
        Gives the absence of a trial: gone when entered, and back when left. What it gives is how
        many seconds it shall last.
    recovery_seconds
        How long it may take from the service's return until every study is completed.
    """
    sent: dict[str, list[Path]] = {}
    problems: list[str] = []
    recovery = 0.0
    for trial in trials:
        _send(site, f"{trial}-before", sent, problems)
        time.sleep(trial * _GOLDEN % 1 * _WAY_SECONDS)
        with away(trial) as seconds:
            for number in _during(seconds):
                _send(site, f"{trial}-during-{number}", sent, problems)
        returned = time.monotonic()
        site.wait_until_at_rest(len(sent), _REST_SECONDS)
        recovery = max(recovery, time.monotonic() - returned)
        problems += [f"trial {trial}: {state}" for state in site.unfinished(sent).values()]
    wait_until(lambda: site.stuck_leases() == 0, _REST_SECONDS)
    files = [path for study in sent.values() for path in study]
    stored = invariants.compare(site.settings.spool_dir, files, files)
    objects = Counter(study for study, _, _ in pacs.stored)
    unfinished = site.unfinished(sent)
    doubled = sum(objects[uid] > _OBJECTS for uid in sent)
    again = sum(times > 1 for times in pacs.stored.values())
    wrong = {
        f"{len(stored.lost)} accepted instances lost, {len(stored.torn)} torn": not stored.whole,
        f"objects per study: {objects.values()}": set(objects.values()) != {_OBJECTS},
        f"{again} objects sent twice": again > 0,
        f"{recovery:.0f} s until everything was done": recovery > recovery_seconds,
        f"{site.stuck_leases()} stuck leases": site.stuck_leases() > 0,
    }
    problems += [what for what, holds in wrong.items() if holds]
    return Outcome(
        trials=len(trials),
        acknowledged=len(sent),
        lost=len(unfinished),
        duplicated=max(doubled, again),
        recovery_s=round(recovery, 1),
        passed=not problems,
        notes="; ".join(problems),
    )


def _during(seconds: float) -> Iterator[int]:
    """Count through an absence from its first moment to its last."""
    began = time.monotonic()
    for number in count():
        yield number
        left = began + seconds - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, max(_BETWEEN_SECONDS, seconds / _MOST_DURING)))


def _send(site: ScreeningSite, name: str, sent: dict[str, list[Path]], problems: list[str]) -> None:
    """Send a study of its own; each instance has to be accepted, and none may take long."""
    study_uid, files = write_drawn_study(site.folder / "sent" / name, name)
    started = time.monotonic()
    accepted = acknowledged(send_with_pynetdicom(files, site.port))
    seconds = time.monotonic() - started
    if len(accepted) < len(files) or seconds > _ANSWER_SECONDS:
        problems.append(f"{name}: {len(accepted)} of {len(files)} accepted in {seconds:.0f} s")
    sent[study_uid] = accepted
