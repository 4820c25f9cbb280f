"""Table 2: Segmentation and classification, without reconstruction."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="t2_t3",
    title="T2 & T3",
    table=Table.TABLE2,
    full=multitask(Task.SEGMENTATION, Task.CLASSIFICATION),
    published=Published(dice=0.7028, accuracy=0.77, sensitivity=0.67, specificity=0.87, auc=0.85),
)
