"""Baseline: the first stage of Jin et al. in three dimensions, on small crops."""

from __future__ import annotations

from model.config import Architecture, Task
from model.experiments.experiment import Experiment, Procedure, Published, Table, baseline

EXPERIMENT = Experiment(
    name="unet_plus_plus_3d",
    title="3-D U-Net++ on crops",
    table=Table.BASELINES,
    full=baseline(
        Architecture.UNET_PLUS_PLUS_3D, Task.SEGMENTATION, input_size=64, base_filters=32
    ),
    published=Published(dice=0.754),
    published_on="whole CT studies of 16 hospitals (Jin)",
    procedure=Procedure.CROPS,
)
