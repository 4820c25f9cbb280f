"""Baseline: Jin et al.: U-Net++ finds lesions, then ResNet50 judges image and lesions."""

from __future__ import annotations

from model.config import Architecture, Task
from model.experiments.experiment import Experiment, Procedure, Published, Table, baseline

EXPERIMENT = Experiment(
    name="two_stage",
    title="U-Net++, then ResNet50",
    table=Table.BASELINES,
    full=baseline(Architecture.TWO_STAGE, Task.SEGMENTATION, Task.CLASSIFICATION),
    published=Published(dice=0.754, sensitivity=0.974, specificity=0.922, auc=0.991),
    published_on="whole CT studies of 16 hospitals (Jin; 3-D U-Net++)",
    procedure=Procedure.TWO_STAGES,
)
