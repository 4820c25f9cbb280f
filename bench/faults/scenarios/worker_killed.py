"""kill -9 of a worker, or of the node that delivers, inside every stage of a screening."""

from __future__ import annotations

import signal
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.services import PostgresqlServer

from bench.faults.kill_points import AIMABLE_SECONDS, STAGES, Plan, tally
from bench.faults.scenario import Outcome, Scenario, Trials, tell
from bench.faults.screening_site import ScreeningSite, write_drawn_study, write_tiny_model
from worker.embedded.orthanc import ThrowAwayOrthanc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_GOLDEN = 0.618034
_RECOVERY_SECONDS = 60.0
_REST_SECONDS = 300.0
_AT_ONCE = 6
# Kills of each stage in a batch. Fewer, as in a short run, may all miss a stage by chance.
_KILLS_EACH = 5
_BATCH = _KILLS_EACH * len(STAGES)
# A short run does not wait for the leases that installations have.
_QUICK = {"lease_seconds": 4, "sweep_seconds": 0.5, "republish_seconds": 4, "settle_seconds": 1}


def run(trials: Trials, folder: Path) -> Outcome:
    """Screen one study for each trial, and kill whoever works on it at its planned moment."""
    with ExitStack() as stack:
        orthanc = stack.enter_context(ThrowAwayOrthanc(folder / "orthanc"))
        settings: dict[str, object] = dict(_QUICK) if trials.short else {}
        # Batches take turns: SQLite, as `lungwatch up` has it, and PostgreSQL.
        if trials.first // _BATCH % 2:
            settings["database_url"] = stack.enter_context(_postgresql())
        site = ScreeningSite(
            folder,
            ("node", "worker", "worker"),
            f"dimse://ORTHANC@127.0.0.1:{orthanc.dicom_port}",
            model_dir=folder / "models",
            model=write_tiny_model(folder / "models"),
            **settings,
        )
        stack.enter_context(site)
        return _run(site, orthanc, trials)


@contextmanager
def _postgresql() -> Iterator[str]:
    """Give the URL of an empty database."""
    # The user postgres, as whom root has to run it, cannot enter the folder of the run.
    with tempfile.TemporaryDirectory(prefix="lungwatch-postgresql-") as folder:
        server = PostgresqlServer(Path(folder))
        server.start()
        try:
            yield server.create_database()
        finally:
            server.stop()


def _run(site: ScreeningSite, orthanc: ThrowAwayOrthanc, trials: Trials) -> Outcome:
    # An undisturbed one first: it tells how long each stage takes.
    undisturbed, files = write_drawn_study(site.folder / "sent" / "undisturbed", "undisturbed")
    site.send(files)
    site.wait_until_at_rest(1, _REST_SECONDS)
    plans = _send_and_kill(site, trials.numbers)
    site.wait_until_at_rest(1 + trials.count, _REST_SECONDS)
    unfinished = site.unfinished([undisturbed, *plans])
    kills = {uid: site.plans.carried_out(uid) for uid in plans}
    recovery = max(
        (
            site.in_work_again_at(uid, kill[0]) - kill[0]
            for uid, kill in kills.items()
            if kill is not None and uid not in unfinished
        ),
        default=0.0,
    )
    held = {uid: _held(orthanc, uid) for uid in (undisturbed, *plans)}
    problems = [
        *(f"{plans.get(uid)}: {state}" for uid, state in unfinished.items()),
        *(f"{plans[uid]} was not carried out" for uid, kill in kills.items() if kill is None),
        *(f"the PACS holds {counts}" for counts in held.values() if set(counts.values()) != {1}),
        *_left_behind(site, trials.count),
    ]
    hit = {plans[uid].stage for uid, kill in kills.items() if kill is not None}
    inside, told = judge_inside(tally(plans, kills, site.folder), hit)
    if trials.count >= len(STAGES) and not inside:
        problems.append(told)
    if recovery > _RECOVERY_SECONDS:
        problems.append(f"a study was in work again {recovery:.0f} s after the kill")
    return Outcome(
        trials=trials.count,
        acknowledged=trials.count,
        lost=len(unfinished),
        duplicated=sum(max(counts.values()) > 1 for counts in held.values()),
        recovery_s=round(recovery, 1),
        passed=not problems,
        notes="; ".join(problems) or told,
    )


def judge_inside(counts: Mapping[str, tuple[int, int]], hit: Collection[str]) -> tuple[bool, str]:
    """Judge whether enough kills lay inside their stages, where there is time to aim.

    Parameters
    ----------
    counts
        Of each stage that there is time to aim at, kills inside and kills in all
        (`kill_points.tally`).
    hit
        The stages that a kill was carried out in, also those that are too short to aim at.

    Returns
    -------
    tuple
        Whether at least half of all lay inside, and of those of each stage one, where it had a
        batch's share; and clauses about that. Their percentage is in tens, so that the notes of
        many batches are one.
    """
    inside, all_ = (sum(count[which] for count in counts.values()) for which in (0, 1))
    tell(", ".join(f"{stage} {hits}/{kills} inside" for stage, (hits, kills) in counts.items()))
    if not all_:
        return False, "no kill could be aimed"
    tens = 100 * inside // all_ // 10 * 10
    of = f"of kills in stages of {1000 * AIMABLE_SECONDS:.0f} ms or longer"
    missed = [s for s, (hits, kills) in counts.items() if kills >= _KILLS_EACH and not hits]
    too_short = [stage for stage in STAGES if stage in hit and stage not in counts]
    told = [
        f"{of} at least {tens} % lay inside",
        *(f"no kill lay inside {stage}" for stage in missed),
        *([f"too short to aim at: {', '.join(too_short)}"] if too_short else []),
    ]
    return 2 * inside >= all_ and not missed, "; ".join(told)


def _send_and_kill(site: ScreeningSite, trials: range) -> dict[str, Plan]:
    """Send a study with a plan for each trial; return the plans by Study Instance UID."""
    plans: dict[str, Plan] = {}
    for trial in trials:
        study_uid, files = write_drawn_study(site.folder / "sent" / str(trial), f"study {trial}")
        # A longer queue would be measured as recovery.
        site.wait_until_at_rest(2 + len(plans) - _AT_ONCE, _REST_SECONDS)
        plans[study_uid] = plan_of(trial)
        site.plans.add(study_uid, plans[study_uid])
        site.send(files)
    return plans


def _left_behind(site: ScreeningSite, trials: int) -> list[str]:
    """Name what the killed processes left, and kills that were none."""
    found = {
        "processes too many or too few were killed": abs(
            sum(event.signal == signal.SIGKILL for event in site.children()) - trials
        ),
        "stuck leases": site.stuck_leases(),
        "orphans in the results folder": len(site.result_orphans()),
        "processes outlived their worker": len(site.strays()),
    }
    return [f"{count} {what}" for what, count in found.items() if count]


def plan_of(trial: int) -> Plan:
    """Spread the trials over the stages, and within each over its length."""
    round_, number = divmod(trial, len(STAGES))
    # A single trial shall be one that leaves something: half an object on disk.
    stage = STAGES[(number + STAGES.index("writing_seg")) % len(STAGES)]
    return Plan(stage, (0.5 + round_ * _GOLDEN) % 1)


def _held(orthanc: ThrowAwayOrthanc, study_uid: str) -> dict[str, int]:
    """Count what the PACS holds of a study: there has to be one SEG, one SR and one summary."""
    return {
        modality: len(orthanc.instances(modality=modality, study_instance_uid=study_uid))
        for modality in ("SEG", "SR", "OT")
    }


SCENARIO = Scenario(
    name="worker_killed",
    title=f"kill -9 of worker or node inside each of {len(STAGES)} stages of a screening",
    passes_if=(
        "every study in work again within 60 s, lease included, and completed; exactly one SEG and "
        "one SR each in the PACS, no stuck lease, no orphan file or process; of kills in stages of "
        f"{1000 * AIMABLE_SECONDS:.0f} ms or longer at least half inside, not at the end of, their "
        f"stages, and one at least of the {_KILLS_EACH} that each of these has in a batch"
    ),
    trials=50 * len(STAGES),
    short_trials=len(STAGES),
    batch=_BATCH,
    run=run,
)
