"""Table 2: Reconstruction and segmentation, without the classifier."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="t1_t2",
    title="T1 & T2",
    table=Table.TABLE2,
    full=multitask(Task.RECONSTRUCTION, Task.SEGMENTATION),
    published=Published(dice=0.6894),
)
