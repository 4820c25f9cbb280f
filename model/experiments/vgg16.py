"""Baseline: Hemdan et al.: transfer learning."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="vgg16",
    title="VGG16",
    table=Table.BASELINES,
    full=baseline(Architecture.VGG16),
    published=Published(accuracy=0.90),
    published_on="50 X-rays (Hemdan)",
)
