"""Whether a training run came to its end, as its folder tells."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from model.training.run_folder import METRICS
from model.training.run_state import RunState

if TYPE_CHECKING:
    from pathlib import Path

    from model.config import TrainingConfig


def stopped_after(run: Path, config: TrainingConfig) -> str:
    """Say how far a run has come that was stopped before its end; empty for one that has ended.

    Parameters
    ----------
    run
        Folder of a `model.training.trainer.Trainer`.
    config
        Its settings.
    """
    try:
        with (run / METRICS).open(newline="") as file:
            scores = [float(row["score"]) for row in csv.DictReader(file)]
    except FileNotFoundError:
        return ""  # not a folder of ours, so that nobody knows
    best_epoch = scores.index(max(scores)) + 1 if scores else 0
    if RunState(epoch=len(scores), best_epoch=best_epoch).ended(config.epochs, config.patience):
        return ""
    return f"stopped after {len(scores)} of at most {config.epochs} epochs"
