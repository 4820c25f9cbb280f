"""Table 2: the plain classifier of eight layers."""

from __future__ import annotations

from dataclasses import replace

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="cnn8",
    title="CNN, 8 layers",
    table=Table.TABLE2,
    full=replace(baseline(Architecture.CNN8), epochs=1500),
    published=Published(accuracy=0.73, sensitivity=0.75, specificity=0.71, auc=0.83),
)
