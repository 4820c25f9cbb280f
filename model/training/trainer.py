"""A seeded training run with early stopping that can be resumed after each epoch."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from model.architectures import branches, build
from model.config import Schedule, Task
from model.data.dataset import Split
from model.errors import TrainingError
from model.evaluation.validation import validate
from model.training.checkpoint import load_checkpoint, save_checkpoint
from model.training.losses import Targets, multitask_losses
from model.training.pipeline import epoch_steps, training_batches
from model.weights_file import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from model.config import TrainingConfig
    from model.data.dataset import Sample


@dataclass
class RunState:
    """What a run has reached; saved with every checkpoint."""

    epoch: int = 0
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """Trains one network on samples in memory.

    Parameters
    ----------
    config
        The run.
    samples
        All samples; their split says which train and which validate.
    folder
        Run folder: ``config.json``, ``metrics.csv``, ``progress.txt``, ``last`` (checkpoint), and
        the averaged weights of the last and of the best epoch, ``last.npz`` and ``best.npz``.
    start_from
        Weights to go on from, of networks that differ in input size or tasks alone; see
        `model.weights_file.load_weights`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        samples: Sequence[Sample],
        folder: Path,
        start_from: Sequence[Path] = (),
    ) -> None:
        keras.utils.set_random_seed(config.seed)
        self.config, self.folder = config, folder
        self.training = [sample for sample in samples if sample.split is Split.TRAIN]
        self.validation = [sample for sample in samples if sample.split is Split.VALIDATION]
        if not self.training or not self.validation:
            raise TrainingError("both splits need samples: train and validation")
        self.network = build(config.network)
        if start_from:
            load_weights(self.network, *start_from)
        self.branches = branches(self.network, config.network)
        self.steps = epoch_steps(self.training, config)
        self.optimizer = keras.optimizers.Adam(_learning_rate(config, self.steps))
        self.optimizer.build(self.network.trainable_variables)
        self.average = [tf.Variable(weight) for weight in self.network.weights]
        self.state = RunState()
        self._step = tf.function(self._train_step)

    def resume(self) -> None:
        """Go on from the run folder's last checkpoint, if there is one."""
        saved = load_checkpoint(self.folder / "last", self._variables())
        if saved is not None:
            self.state = RunState(**saved)

    def run(self, report: Callable[[str], None] = lambda _: None) -> RunState:
        """Train until the epochs are over or the validation score has stopped rising.

        Parameters
        ----------
        report
            Takes one line of progress.

        Raises
        ------
        TrainingError
            If a loss is not a number.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(self.config.to_json() + "\n")
        while self.state.epoch < self.config.epochs and not self._exhausted():
            started = time.monotonic()
            losses = self._train_epoch(report)
            metrics = self._validate()
            self.state.epoch += 1
            self.state.seconds += time.monotonic() - started
            self._record(losses | metrics)
            report(_line(self.state.history[-1]))
        return self.state

    def _exhausted(self) -> bool:
        return self.state.epoch - self.state.best_epoch >= self.config.patience

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.optimizer.variables, *self.average]

    def _train_epoch(self, report: Callable[[str], None]) -> dict[str, float]:
        """Run one epoch and return the mean of each loss."""
        totals: dict[str, list[float]] = {}
        for batch in training_batches(self.training, self.config, self.state.epoch):
            weight = _warm_up(self.state.step, self.config.segmentation_warm_up_steps)
            losses = self._step(Targets(*batch), tf.constant(weight, tf.float32))
            self.state.step += 1
            for name, loss in losses.items():
                value = float(loss)
                if not math.isfinite(value):
                    raise TrainingError(
                        f"{name} loss is {value} at step {self.state.step}; the last good state is "
                        f"{self.folder / 'last'}; lower the learning rate"
                    )
                totals.setdefault(f"{name}_loss", []).append(value)
            if self.state.step % 20 == 0:
                self._progress(totals, report)
        return {name: float(np.mean(values)) for name, values in totals.items()}

    def _train_step(self, targets: Targets, segmentation_weight: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self._losses(targets)
            weighted = [
                loss * segmentation_weight if name == Task.SEGMENTATION else loss
                for name, loss in losses.items()
            ]
            total = tf.add_n(weighted)
        gradients = tape.gradient(total, self.network.trainable_variables)
        self.optimizer.apply(gradients)
        momentum = self.config.averaging
        for mean, weight in zip(self.average, self.network.weights, strict=True):
            mean.assign(momentum * mean + (1 - momentum) * tf.convert_to_tensor(weight))
        return losses

    def _losses(self, targets: Targets) -> dict[str, tf.Tensor]:
        """Run each branch on the samples it learns from, and take its loss.

        A decoder takes twice the encoder's time, and most samples have no mask.
        """
        levels = self.branches.encoder(targets.image, training=True)
        size = tf.shape(targets.has_mask)[0]
        drawn = {
            Task.RECONSTRUCTION: tf.range(self.config.reconstruction_samples or size),
            Task.SEGMENTATION: tf.where(_with_mask_or_first(targets.has_mask))[:, 0],
            Task.CLASSIFICATION: tf.range(size),
        }
        losses: dict[str, tf.Tensor] = {}
        for task, head in self.branches.heads.items():
            output = head([tf.gather(level, drawn[task]) for level in levels], training=True)
            subset = Targets(*(tf.gather(part, drawn[task]) for part in targets))
            losses |= multitask_losses(subset, {task: output}, self.config.dice_smoothing)
        return losses

    def _validate(self) -> dict[str, float]:
        """Validate the averaged weights, which are the ones a run gives away."""
        current = self.network.get_weights()
        self.network.set_weights([mean.numpy() for mean in self.average])
        save_weights(self.network, self.folder / "last.npz")
        metrics = validate(self.network, self.validation)
        if metrics["score"] > self.state.best_score:
            self.state.best_score = metrics["score"]
            self.state.best_epoch = self.state.epoch + 1
            save_weights(self.network, self.folder / "best.npz")
        self.network.set_weights(current)
        return metrics

    def _record(self, values: dict[str, float]) -> None:
        reached = {"epoch": self.state.epoch, "seconds": self.state.seconds}
        self.state.history.append(reached | values)
        save_checkpoint(self.folder / "last", self._variables(), vars(self.state))
        with (self.folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.state.history[0]))
            writer.writeheader()
            writer.writerows(self.state.history)

    def _progress(self, totals: dict[str, list[float]], report: Callable[[str], None]) -> None:
        means = {name: float(np.mean(values[-20:])) for name, values in totals.items()}
        line = _line({"epoch": self.state.epoch + 1, "step": self.state.step, **means})
        (self.folder / "progress.txt").write_text(line + "\n")
        report(line)


def _learning_rate(
    config: TrainingConfig, steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if config.schedule is Schedule.CONSTANT:
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(
        config.learning_rate, decay_steps=config.epochs * steps, alpha=0.02
    )


def _with_mask_or_first(has_mask: tf.Tensor) -> tf.Tensor:
    """Choose the samples with a mask; without any the first, since no branch runs on nothing."""
    first = tf.one_hot(0, tf.shape(has_mask)[0])
    return tf.logical_or(has_mask > 0, tf.logical_and(first > 0, tf.reduce_all(has_mask == 0)))


def _warm_up(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / steps) if steps else 1.0


def _line(values: dict[str, float]) -> str:
    return "  ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )
