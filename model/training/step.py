"""One optimization step: network, optimizer and averaged weights, on one device or on several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from model.architectures import branches, build
from model.config import Task
from model.devices import choose_strategy, precision
from model.errors import TrainingError
from model.training.losses import LossOptions, Targets, multitask_losses
from model.training.optimizer import build_optimizer
from model.weights_file import load_weights

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model.config import TrainingConfig
    from model.training.pipeline import Batch


class TrainingStep:
    """What a step changes, and how.

    Parameters
    ----------
    config
        The run.
    steps
        Steps of an epoch.
    start_from
        Weights to begin with; see `model.weights_file.load_weights`.

    Attributes
    ----------
    network
        What is trained, in the run's arithmetic.
    averaged
        The same network in float32 with the averaged weights: what is validated and given away.

    Raises
    ------
    TrainingError
        If the devices cannot share a batch evenly.
    """

    def __init__(self, config: TrainingConfig, steps: int, start_from: Sequence[Path] = ()) -> None:
        # A resumed run has to take the very steps of an unbroken one. On a CPU this costs nothing.
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        self.config = config
        self.strategy = choose_strategy()
        self.replicas: int = self.strategy.num_replicas_in_sync
        if config.batch_size % self.replicas:
            raise TrainingError(
                f"batch_size {config.batch_size} cannot be shared evenly by {self.replicas} GPUs: "
                f"take a multiple of {self.replicas}, or hide some with CUDA_VISIBLE_DEVICES"
            )
        with self.strategy.scope(), precision(config.precision.value):
            self.network = build(config.network)
            if start_from:
                load_weights(self.network, *start_from)
            if self.replicas > 1:
                _normalise_over_all_devices(self.network)
            self.branches = branches(self.network, config.network)
            self.optimizer = build_optimizer(
                config, steps, self.network.trainable_variables, self.replicas
            )
        self.averaged = build(config.network, initialise=False)
        for mean, weight in zip(self.averaged.weights, self.network.weights, strict=True):
            mean.assign(weight)
        # No branch of a step hangs on a tensor, so its code need not be rewritten before tracing.
        self._run = tf.function(self._on_all_devices, autograph=False)

    @property
    def variables(self) -> list[Any]:
        """All that a checkpoint has to hold: weights, dropout's seeds, moments, averages."""
        return [*self.network.variables, *self.optimizer.variables, *self.averaged.weights]

    def __call__(self, batch: Batch, segmentation_weight: float) -> dict[str, float]:
        """Train on one batch and return the loss of each task over the whole of it."""
        losses = self._run(self._share(batch), tf.constant(segmentation_weight, tf.float32))
        return {name: float(loss) for name, loss in losses.items()}

    def _share(self, batch: Batch) -> Targets:
        """Give each device its part of a batch."""
        if self.replicas == 1:
            return Targets(*batch)
        size = self.config.batch_size // self.replicas
        parts = [
            Targets(*(part[number * size : (number + 1) * size] for part in batch))
            for number in range(self.replicas)
        ]
        shared: Targets = self.strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        return shared

    def _on_all_devices(
        self, targets: Targets, segmentation_weight: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        if self.replicas == 1:
            losses = self._on_one_device(targets, segmentation_weight)
        else:
            each = self.strategy.run(self._on_one_device, args=(targets, segmentation_weight))
            # Every device has the loss of the whole batch.
            losses = {
                name: self.strategy.experimental_local_results(loss)[0]
                for name, loss in each.items()
            }
        momentum = self.config.averaging
        for mean, weight in zip(self.averaged.weights, self.network.weights, strict=True):
            mean.assign(momentum * mean + (1 - momentum) * tf.convert_to_tensor(weight))
        return losses

    def _on_one_device(
        self, targets: Targets, segmentation_weight: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self._losses(targets)
            weighted = [
                loss * segmentation_weight if name == Task.SEGMENTATION else loss
                for name, loss in losses.items()
            ]
            total = self.optimizer.scale_loss(tf.add_n(weighted))
        gradients = tape.gradient(total, self.network.trainable_variables)
        if self.replicas > 1:
            gradients = self._added(gradients)
        self.optimizer.apply(gradients)
        return losses

    def _added(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Add the gradients of all devices before they are clipped.

        The sums within the losses pass each device's gradient on to all of them, which makes the
        sum too large by their number; the optimizer adds them up once more.
        """
        context = tf.distribute.get_replica_context()
        added = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        return [gradient / self.replicas**2 for gradient in added]

    def _losses(self, targets: Targets) -> dict[str, tf.Tensor]:
        """Run each branch on the samples it learns from, and take its loss.

        A decoder takes twice the encoder's time, and most samples have no mask.
        """
        options = LossOptions(self.config.dice_smoothing, self.config.label_smoothing, self._total)
        levels = self.branches.encoder(targets.image, training=True)
        size = tf.shape(targets.has_mask)[0]
        drawn = {
            Task.RECONSTRUCTION: tf.range(
                -(-self.config.reconstruction_samples // self.replicas) or size
            ),
            Task.SEGMENTATION: tf.where(_with_mask_or_first(targets.has_mask))[:, 0],
            Task.CLASSIFICATION: tf.range(size),
        }
        losses: dict[str, tf.Tensor] = {}
        for task, head in self.branches.heads.items():
            output = head([tf.gather(level, drawn[task]) for level in levels], training=True)
            subset = Targets(*(tf.gather(part, drawn[task]) for part in targets))
            losses |= multitask_losses(subset, {task: output}, options)
        return losses

    def _total(self, value: tf.Tensor) -> tf.Tensor:
        if self.replicas == 1:
            return value
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def _normalise_over_all_devices(network: keras.Model) -> None:
    """Take batch statistics over the whole batch, as one device would."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def _with_mask_or_first(has_mask: tf.Tensor) -> tf.Tensor:
    """Choose the samples with a mask; without any the first, since no branch runs on nothing."""
    first = tf.one_hot(0, tf.shape(has_mask)[0])
    return tf.logical_or(has_mask > 0, tf.logical_and(first > 0, tf.reduce_all(has_mask == 0)))
