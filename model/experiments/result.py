"""What an experiment gave, as a JSON file that the tables are made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from model.errors import TrainingError
from model.experiments.experiment import Scale
from model.files import write_text

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class MeasuredFigure:
    """One figure of the reported samples.

    Attributes
    ----------
    name
        ``dice``, ``accuracy``, ``sensitivity``, ``specificity`` or ``auc``.
    source
        Source of the samples, or ``both classes``: every source that has both classes.
    count, patients
        Samples, and patients (or clusters of near duplicates) among them.
    value
        The figure as a share of 1.
    low, high
        95 % bootstrap interval over patients; None where there are too few.
    """

    name: str
    source: str
    count: int
    patients: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    experiment, scale
        What was run.
    input_size, parameters
        Size of the input, and variables of the network.
    steps, batch_size, seed
        What it was trained with.
    epoch_steps, best_epoch, best_score
        Steps of an epoch, and when the selection score was highest, and how high.
    cpu_seconds, seconds
        Processor time of all sessions, and wall time of the training.
    data_sha256
        Of the manifest.
    protocol
        How the epoch was chosen, and what was reported on.
    figures
        Figures of the reported samples.
    note
        What else must be known to read them.
    git_commit
        Commit of the code that finished the run; empty where it is not known, as of earlier runs.
    learning_rate, masked_share
        Highest rate, and the share of images drawn from groups with lesion masks (0: as the data
        are); None in results of earlier runs, which did not keep them.
    """

    experiment: str
    scale: Scale
    input_size: int
    parameters: int
    steps: int
    batch_size: int
    seed: int
    epoch_steps: int
    best_epoch: int
    best_score: float
    cpu_seconds: float
    seconds: float
    data_sha256: str
    protocol: str
    figures: tuple[MeasuredFigure, ...]
    note: str = ""
    git_commit: str = ""
    learning_rate: float | None = None
    masked_share: float | None = None

    def figure(self, name: str, source: str = "both classes") -> MeasuredFigure | None:
        """Return a figure, or None if the network has none of that name."""
        found = [f for f in self.figures if f.name == name and f.source == source]
        return found[0] if found else None

    def write(self, path: Path) -> None:
        """Write the result whole or not at all."""
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> RunResult:
        """Read what `write` wrote.

        Raises
        ------
        TrainingError
            If the file is no result of an experiment.
        """
        try:
            values = json.loads(path.read_text())
            figures = tuple(MeasuredFigure(**figure) for figure in values.pop("figures"))
            return cls(**values | {"figures": figures, "scale": Scale(values["scale"])})
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(
                f"{path}: no result of an experiment ({error}); remove it and run again"
            ) from error
