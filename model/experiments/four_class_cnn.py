"""Baseline: Wang et al.: four classes."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="four_class_cnn",
    title="Four-class CNN",
    table=Table.BASELINES,
    full=baseline(Architecture.FOUR_CLASS_CNN),
    published=Published(accuracy=0.835),
    published_on="four classes of X-rays (Wang)",
)
