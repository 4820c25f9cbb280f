"""Baseline: Narin et al.: transfer learning."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="resnet50",
    title="ResNet50",
    table=Table.BASELINES,
    full=baseline(Architecture.RESNET50),
    published=Published(accuracy=0.97),
    published_on="100 X-rays (Narin; best of three networks)",
)
