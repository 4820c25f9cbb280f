"""kill -9 of a worker, or of the node that delivers, inside every stage of a screening."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.faults.kill_points import STAGES, Plan
from bench.faults.scenario import Outcome, Scenario
from bench.faults.screening_site import ScreeningSite, write_drawn_study, write_tiny_model
from worker.embedded.orthanc import ThrowAwayOrthanc

if TYPE_CHECKING:
    from pathlib import Path

_GOLDEN = 0.618034
_RECOVERY_SECONDS = 60.0
_REST_SECONDS = 300.0
_AT_ONCE = 6
# A short run does not wait for the leases that installations have.
_FEW_TRIALS = len(STAGES)
_QUICK = {"lease_seconds": 4, "sweep_seconds": 0.5, "republish_seconds": 4, "settle_seconds": 1}


def run(first_trial: int, trials: int, folder: Path) -> Outcome:
    """Screen one study for each trial, and kill whoever works on it at its planned moment."""
    with ThrowAwayOrthanc(folder / "orthanc") as orthanc:
        site = ScreeningSite(
            folder,
            ("node", "worker", "worker"),
            f"dimse://ORTHANC@127.0.0.1:{orthanc.dicom_port}",
            model_dir=folder / "models",
            model=write_tiny_model(folder / "models"),
            **(_QUICK if trials <= _FEW_TRIALS else {}),
        )
        with site:
            return _run(site, orthanc, first_trial, trials)


def _run(site: ScreeningSite, orthanc: ThrowAwayOrthanc, first_trial: int, trials: int) -> Outcome:
    # An undisturbed one first: it tells how long each stage takes.
    undisturbed, files = write_drawn_study(site.folder / "sent" / "undisturbed", "undisturbed")
    site.send(files)
    problems = [] if site.wait_until_at_rest(1, _REST_SECONDS) else ["it never worked"]
    plans: dict[str, Plan] = {}
    for trial in range(first_trial, first_trial + trials):
        study_uid, files = write_drawn_study(site.folder / "sent" / str(trial), f"study {trial}")
        # A longer queue would be measured as recovery.
        site.wait_until_at_rest(2 + len(plans) - _AT_ONCE, _REST_SECONDS)
        plans[study_uid] = plan_of(trial)
        site.plans.add(study_uid, plans[study_uid])
        site.send(files)
    site.wait_until_at_rest(1 + trials, _REST_SECONDS)
    unfinished = site.unfinished([undisturbed, *plans])
    problems += [f"{plans[uid].stage}: {state}" for uid, state in unfinished.items()]
    kills = {uid: site.plans.carried_out(uid) for uid in plans}
    problems += [f"not killed: {plans[uid]}" for uid, kill in kills.items() if kill is None]
    ended = sum(event.signal == 9 for event in site.children())
    if ended != trials:
        problems.append(f"{ended} processes were killed, not {trials}")
    wrong, doubled = _held(orthanc, [undisturbed, *plans])
    problems += wrong
    if stuck := site.stuck_leases():
        problems.append(f"{stuck} stuck leases")
    if orphans := site.result_orphans():
        problems.append(f"orphans in the results folder: {orphans}")
    if strays := site.strays():
        problems.append(f"{len(strays)} processes outlived their worker")
    recovery = max(
        (
            site.completed_at(uid) - kill[0]
            for uid, kill in kills.items()
            if kill is not None and uid not in unfinished
        ),
        default=0.0,
    )
    if recovery > _RECOVERY_SECONDS:
        problems.append(f"a study took {recovery:.0f} s from the kill to its completion")
    return Outcome(
        trials=trials,
        acknowledged=trials,
        lost=len(unfinished),
        duplicated=doubled,
        recovery_s=round(recovery, 1),
        passed=not problems and not unfinished and not doubled,
        notes="; ".join(problems),
    )


def plan_of(trial: int) -> Plan:
    """Spread the trials over the stages, and within each over its length."""
    round_, number = divmod(trial, len(STAGES))
    # A single trial shall be one that leaves something: half an object on disk.
    stage = STAGES[(number + STAGES.index("writing_seg")) % len(STAGES)]
    return Plan(stage, (0.5 + round_ * _GOLDEN) % 1)


def _held(orthanc: ThrowAwayOrthanc, study_uids: list[str]) -> tuple[list[str], int]:
    """Compare what the PACS holds with one SEG, one SR and one summary for each study."""
    wrong, doubled = [], 0
    for uid in study_uids:
        counts = {
            modality: len(orthanc.instances(modality=modality, study_instance_uid=uid))
            for modality in ("SEG", "SR", "OT")
        }
        if set(counts.values()) != {1}:
            wrong.append(f"the PACS holds {counts}")
        doubled += any(count > 1 for count in counts.values())
    return wrong, doubled


SCENARIO = Scenario(
    name="worker_killed",
    title=f"kill -9 of worker or node inside each of {len(STAGES)} stages of a screening",
    passes_if=(
        "every study completed within 60 s of its kill, lease included, exactly one SEG and one "
        "SR each in the PACS, no stuck lease, no orphan file or process"
    ),
    trials=50 * len(STAGES),
    short_trials=len(STAGES),
    batch=5 * len(STAGES),
    run=run,
)
