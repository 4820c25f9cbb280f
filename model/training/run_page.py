"""The page of a run folder that a person reads first."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from model.training.progress import describe, describe_seconds

if TYPE_CHECKING:
    from pathlib import Path

    from model.config import TrainingConfig
    from model.training.run_state import RunState

_PAGE = """# Training run {name}

{architecture} network, {size} x {size}, {filters} base filters, tasks {tasks}.

- State: {end}.
- Best: {best}.
- The score is the mean of the validation AUC and the validation Dice, as far as the network has
  these tasks (else minus the mean squared error), of the averaged weights. The run stops
  {patience} epochs after the best.
- Data: {samples} samples of `{manifest}`; SHA-256 of the manifest `{manifest_sha256}`, of the
  samples `{samples_sha256}`.
- Began with: {began}.
- Made by: commit `{commit}` with {changed} changed files; {packages}; {processor},
  {cores} cores, {gpus}.
- Time so far: {time}.
- Last epoch: {last}.

Go on after an interruption, with the same result as without one:

    {command}

| file | holds |
| --- | --- |
| `best.npz`, `last.npz` | averaged weights of the best and of the last epoch |
| `metrics.csv`, `curves.png`, `tensorboard/` | losses and figures of each epoch |
| `config.json` | all settings |
| `environment.json`, `data.sha256` | data, code and machine the run was made with |
| `last/` | the newest checkpoint and the one before |
| `progress.txt` | where the run is within its epoch |
"""


def run_page(folder: Path, config: TrainingConfig, state: RunState, origin: dict[str, Any]) -> str:
    """Write what a run is, how far it came and how to go on with it, as Markdown.

    Parameters
    ----------
    folder, config, state
        The run.
    origin
        What ``environment.json`` of the run folder holds.
    """
    network = config.network
    command = ["lungwatch", "train", str(folder / "config.json"), "--data"]
    command += [origin["manifest"] or "MANIFEST.csv", "--out", str(folder), "--resume"]
    began = ", ".join(f"`{each['file']}`" for each in origin["start_from"])
    return _PAGE.format(
        name=folder.resolve().name,
        architecture=network.architecture.value,
        size=network.input_size,
        filters=network.base_filters,
        tasks=", ".join(network.tasks),
        end=_describe_end(config, state),
        best=f"score {state.best_score:.4f} in epoch {state.best_epoch} (`best.npz`)"
        if state.best_epoch
        else "no epoch is validated yet",
        patience=config.patience,
        samples=origin["samples"],
        manifest=origin["manifest"] or "-",
        manifest_sha256=origin["manifest_sha256"] or "-",
        samples_sha256=origin["samples_sha256"],
        began=began or f"random weights, seed {config.seed}",
        commit=origin["git_commit"] or "-",
        changed=origin["git_changed_files"],
        packages=", ".join(f"{name} {number}" for name, number in origin["packages"].items()),
        processor=origin["processor"],
        cores=origin["cores"],
        gpus=", ".join(origin["gpus"]) or "no GPU",
        time=describe_seconds(state.seconds),
        last=describe(state.history[-1]) if state.history else "none yet",
        command=shlex.join(command),
    )


def _describe_end(config: TrainingConfig, state: RunState) -> str:
    where = f"{state.epoch} of at most {config.epochs} epochs"
    if state.epoch >= config.epochs:
        return f"finished, {where}"
    if state.exhausted(config.patience):
        return f"finished, stopped early after {where}"
    return f"not finished, {where}"
