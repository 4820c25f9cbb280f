"""Baseline: Zhao et al.: transfer learning on COVID-CT."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="densenet169",
    title="DenseNet-169",
    table=Table.BASELINES,
    full=baseline(Architecture.DENSENET169),
    published=Published(accuracy=0.847, auc=0.824),
    published_on="COVID-CT (Zhao)",
)
