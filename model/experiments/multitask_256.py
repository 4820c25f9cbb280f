"""Table 2: All three tasks at 256 x 256: the network the paper proposes."""

from __future__ import annotations

from model.config import Task
from model.experiments.experiment import Experiment, Published, Table, multitask

EXPERIMENT = Experiment(
    name="multitask_256",
    title="T1 & T2 & T3, 256 x 256",
    table=Table.TABLE2,
    full=multitask(*Task),
    published=Published(dice=0.7852, accuracy=0.86, sensitivity=0.94, specificity=0.79, auc=0.93),
)
