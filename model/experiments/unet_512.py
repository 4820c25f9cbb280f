"""Table 2: Segmentation alone at 512 x 512."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="unet_512",
    title="U-Net 512 x 512",
    table=Table.TABLE2,
    full=multitask(Task.SEGMENTATION, input_size=512),
    published=Published(dice=0.6714),
)
