"""The optimizer of a run, from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras

from model.config import Precision, Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.config import TrainingConfig

NOT_DECAYED = ("bias", "beta", "gamma")


def build_optimizer(
    config: TrainingConfig,
    steps: int,
    variables: Sequence[keras.Variable],
    replicas: int = 1,
) -> keras.optimizers.Optimizer:
    """Build Adam as the paper has it, with the decay, clipping and loss scale that are asked for.

    Parameters
    ----------
    config
        The run.
    steps
        Steps of an epoch; the schedule runs over all epochs.
    variables
        What is trained; the optimizer's own variables are made for them.
    replicas
        Devices that share a batch; the gradient of each is handed over divided by this number.

    Returns
    -------
    keras.optimizers.Optimizer
        Adam; around it a dynamic loss scale for float16, whose
        smallest gradients would otherwise vanish.
    """
    optimizer = keras.optimizers.Adam(
        _learning_rate(config, steps),
        weight_decay=config.weight_decay or None,
        global_clipnorm=config.gradient_clip / replicas or None,
    )
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    if config.precision is Precision.MIXED_FLOAT16:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)
    return optimizer


def _learning_rate(
    config: TrainingConfig, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if config.schedule is Schedule.CONSTANT:
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate, decay_steps=config.epochs * steps, alpha=0.02
    )
