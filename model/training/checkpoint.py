"""Checkpoints of a run: arrays and JSON in one file with its own checksum, and the one before.

A checkpoint is written beside the last one, flushed to disk and renamed, so that a crash at any
moment leaves at least one that is whole. Only arrays are stored: reading one executes nothing.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model.errors import TrainingError
from model.files import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CURRENT, PREVIOUS = "current.npz", "previous.npz"


class Checkpoint(NamedTuple):
    """What was read back.

    Attributes
    ----------
    state
        As it was given to `save_checkpoint`.
    damage
        What is wrong with the newest file, if the one before had to do; else empty.
    """

    state: dict[str, Any]
    damage: str = ""


def has_checkpoint(folder: Path) -> bool:
    """Say whether a checkpoint was ever finished here, whole or damaged since."""
    return any((folder / name).exists() for name in (CURRENT, PREVIOUS))


def last_good(folder: Path) -> str:
    """Tell where the last checkpoint is, for an error that stops a run."""
    if has_checkpoint(folder):
        return f"the last good checkpoint is {folder}"
    return "there is no checkpoint yet"


def require_finite(variables: Sequence[Any], folder: Path) -> None:
    """Check that all variables are numbers.

    Raises
    ------
    TrainingError
        If one is not; the message names the last checkpoint in `folder`.
    """
    if not all(np.isfinite(np.asarray(variable)).all() for variable in variables):
        raise TrainingError(
            f"the weights hold values that are no numbers; {last_good(folder)}: "
            "lower the learning rate, or set gradient_clip"
        )


def save_checkpoint(folder: Path, variables: Sequence[Any], state: dict[str, Any]) -> None:
    """Write variables and state, so that a crash leaves the old checkpoint or the new one.

    Parameters
    ----------
    folder
        Where the checkpoint will be, and the one before it.
    variables
        Keras or TensorFlow variables, always in the same order.
    state
        Anything JSON can hold.

    Raises
    ------
    TrainingError
        If a variable holds what is no number, or the file cannot be written, for instance on a
        full disk; the checkpoint that was there stays valid.
    """
    require_finite(variables, folder)
    arrays = [np.asarray(variable) for variable in variables]
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    current, previous = folder / CURRENT, folder / PREVIOUS
    try:
        with replaced(current) as temporary:
            np.savez(temporary, *arrays, state=text, sha256=_digest(arrays, text))
            if current.exists():
                current.replace(previous)
    except OSError as error:
        kept = "the last one is still valid" if has_checkpoint(folder) else last_good(folder)
        raise TrainingError(
            f"{folder}: the checkpoint could not be written: {error.strerror or error}; {kept}: "
            "make room, then go on with --resume"
        ) from error


def load_checkpoint(folder: Path, variables: Sequence[Any]) -> Checkpoint | None:
    """Read the newest whole checkpoint into variables, or return None where there is none.

    Raises
    ------
    TrainingError
        If the checkpoint belongs to a differently built run, or none of the files is whole.
    """
    paths = [path for path in (folder / CURRENT, folder / PREVIOUS) if path.exists()]
    damages: list[str] = []
    for path in paths:
        try:
            arrays, state = _read(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            damages.append(f"{path}: damaged checkpoint: {error}")
            continue
        shapes = [tuple(variable.shape) for variable in variables]
        if [array.shape for array in arrays] != shapes:
            raise TrainingError(
                f"{folder}: belongs to a run with another network; resume with that run's "
                "config.json"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return Checkpoint(state, "; ".join(damages))
    if damages:
        raise TrainingError(
            f"{'; '.join(damages)}. No checkpoint of {folder} is whole: begin a new run, with "
            "--start-from for weights that can still be read"
        )
    return None


def _read(path: Path) -> tuple[list[NDArray[Any]], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as stored:
        arrays = [stored[f"arr_{number}"] for number in range(len(stored.files) - 2)]
        text, digest = stored["state"], stored["sha256"]
    if not np.array_equal(_digest(arrays, text), digest):
        raise ValueError("its checksum does not fit")
    state: dict[str, Any] = json.loads(text.tobytes())
    return arrays, state


def _digest(arrays: Sequence[NDArray[Any]], text: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the SHA-256 of types, shapes and bytes of all arrays and of the state."""
    sha256 = hashlib.sha256()
    for array in (*arrays, text):
        sha256.update(f"{array.dtype.str}{array.shape}".encode())
        sha256.update(np.ascontiguousarray(array).view(np.uint8).data)
    return np.frombuffer(sha256.digest(), np.uint8)
