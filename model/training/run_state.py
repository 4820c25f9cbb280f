"""What a run has reached."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class RunState:
    """What a run has reached; saved with every checkpoint.

    Attributes
    ----------
    epoch
        Epochs that are over.
    position
        Steps of the present epoch that are over.
    step
        Steps of all epochs.
    sums
        Sums of each loss over the present epoch.
    best_score, best_epoch
        The best validation score and its epoch, counted from 1; 0 before the first.
    seconds
        Time of training so far.
    history
        A row of figures for each epoch.
    """

    epoch: int = 0
    position: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    best_score: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def ended(self, epochs: int, patience: int) -> bool:
        """Whether the run is over: after its epochs, or for want of improvement."""
        return self.epoch >= epochs or self.exhausted(patience)

    def exhausted(self, patience: int) -> bool:
        """Whether the validation score has not risen for so many epochs."""
        return self.epoch - self.best_epoch >= patience
