"""Table 2: Reconstruction and classification, without lesions."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="t1_t3",
    title="T1 & T3",
    table=Table.TABLE2,
    full=multitask(Task.RECONSTRUCTION, Task.CLASSIFICATION),
    published=Published(accuracy=0.76, sensitivity=0.60, specificity=0.90, auc=0.86),
)
