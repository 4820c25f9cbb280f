"""Baseline: Afshar et al.: capsules with dynamic routing."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="capsule",
    title="Capsule network",
    table=Table.BASELINES,
    full=baseline(Architecture.CAPSULE),
    published=Published(accuracy=0.957, sensitivity=0.90, specificity=0.958),
    published_on="X-rays (Afshar)",
)
