"""Baseline: Sethy et al.: ResNet50 features with a support vector machine."""

from __future__ import annotations

from model.config import Architecture
from model.experiments.experiment import Experiment, Procedure, Published, Table, baseline

EXPERIMENT = Experiment(
    name="resnet50_svm",
    title="ResNet50 features + SVM",
    table=Table.BASELINES,
    full=baseline(Architecture.RESNET50),
    published=Published(accuracy=0.9538, sensitivity=0.9729, specificity=0.9347),
    published_on="X-rays (Sethy)",
    procedure=Procedure.FEATURES_AND_SVM,
)
