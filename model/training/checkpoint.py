"""Checkpoints of a run: plain arrays and JSON in a folder that is swapped in whole."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from model.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def save_checkpoint(folder: Path, variables: Sequence[Any], state: dict[str, Any]) -> None:
    """Write variables and state, so that a crash leaves the old checkpoint or the new one.

    Parameters
    ----------
    folder
        Where the checkpoint will be.
    variables
        Keras or TensorFlow variables, always in the same order.
    state
        Anything JSON can hold.
    """
    fresh, stale = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    np.savez(fresh / "variables.npz", *[np.asarray(variable) for variable in variables])
    (fresh / "state.json").write_text(json.dumps(state))
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)


def load_checkpoint(folder: Path, variables: Sequence[Any]) -> dict[str, Any] | None:
    """Read a checkpoint into variables and return its state, or None where there is none.

    Raises
    ------
    TrainingError
        If the checkpoint belongs to a differently built run.
    """
    if not folder.exists():
        folder = folder.with_name(folder.name + ".old")
    if not folder.exists():
        return None
    with np.load(folder / "variables.npz", allow_pickle=False) as arrays:
        values = [arrays[f"arr_{number}"] for number in range(len(arrays.files))]
    shapes = [tuple(variable.shape) for variable in variables]
    if [value.shape for value in values] != shapes:
        raise TrainingError(
            f"{folder}: belongs to a run with another network; resume with that run's config.json"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state
