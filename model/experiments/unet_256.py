"""Table 2: Segmentation alone at 256 x 256."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="unet_256",
    title="U-Net 256 x 256",
    table=Table.TABLE2,
    full=multitask(Task.SEGMENTATION),
    published=Published(dice=0.6909),
)
