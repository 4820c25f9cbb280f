"""The experiments by name, in the order of their tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.errors import ConfigError
from model.experiments import (
    capsule,
    cnn8,
    densenet169,
    four_class_cnn,
    inception_resnet_v2,
    inception_v3,
    multitask_256,
    multitask_512,
    resnet50,
    resnet50_svm,
    t1_t2,
    t1_t3,
    t2_t3,
    two_stage,
    unet_256,
    unet_512,
    unet_plus_plus_3d,
    vgg16,
)
from model.experiments.experiment import Table

if TYPE_CHECKING:
    from model.experiments.experiment import Experiment

_ROWS = (
    t1_t2,
    t1_t3,
    t2_t3,
    multitask_512,
    multitask_256,
    unet_512,
    unet_256,
    cnn8,
    resnet50,
    inception_v3,
    inception_resnet_v2,
    vgg16,
    densenet169,
    four_class_cnn,
    capsule,
    resnet50_svm,
    two_stage,
    unet_plus_plus_3d,
)
_EXPERIMENTS: dict[str, Experiment] = {row.EXPERIMENT.name: row.EXPERIMENT for row in _ROWS}


def names(table: Table | None = None) -> tuple[str, ...]:
    """Return the names of all experiments, or of one table's rows, in the table's order."""
    return tuple(name for name, row in _EXPERIMENTS.items() if table is None or row.table is table)


def get(name: str) -> Experiment:
    """Return an experiment.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name not in _EXPERIMENTS:
        raise ConfigError(f"no experiment {name}; there are {', '.join(_EXPERIMENTS)}")
    return _EXPERIMENTS[name]


def select(name: str) -> tuple[Experiment, ...]:
    """Return the experiment of a name, or all of a table named ``table2`` or ``baselines``."""
    if name in set(Table):
        return tuple(get(row) for row in names(Table(name)))
    return (get(name),)
