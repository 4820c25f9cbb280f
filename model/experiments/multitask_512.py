"""Table 2: All three tasks at 512 x 512."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="multitask_512",
    title="T1 & T2 & T3, 512 x 512",
    table=Table.TABLE2,
    full=multitask(*Task, input_size=512),
    published=Published(dice=0.7609, accuracy=0.85, sensitivity=0.75, specificity=0.94, auc=0.92),
)
