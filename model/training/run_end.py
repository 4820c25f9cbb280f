"""Whether a training run came to its end, as its folder tells."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from model.training.run_folder import METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from model.config import TrainingConfig


def stopped_after(run: Path, config: TrainingConfig) -> str:
    """Say how far a run has come that was stopped before its end; empty for one that has ended.

    A run ends after its epochs, or when its validation score has not risen for as many of them as
    its patience.

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
    epochs = len(scores)
    since_best = epochs - scores.index(max(scores)) - 1 if scores else 0
    if epochs >= config.epochs or since_best >= config.patience:
        return ""
    return f"stopped after {epochs} of at most {config.epochs} epochs"
