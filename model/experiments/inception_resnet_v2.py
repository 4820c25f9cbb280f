"""Baseline: Narin et al.: transfer learning."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Published, Table, baseline

EXPERIMENT = Experiment(
    name="inception_resnet_v2",
    title="Inception-ResNetV2",
    table=Table.BASELINES,
    full=baseline(Architecture.INCEPTION_RESNET_V2),
    published=Published(accuracy=0.97),
    published_on="100 X-rays (Narin; best of three networks)",
)
