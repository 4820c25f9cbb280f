"""Does the input keep up with training? Images a second of the input alone beside the step's need.

    python bench/input_pipeline.py [--size 256] [--filters 16] [--batch 4] [--data MANIFEST.csv]

Without a manifest the synthetic chest is the data. The input is timed with nothing to wait for,
the step on one batch that is there already; then both together, as a run has them. An input that
gives more images alone than the step takes does not starve it, unless both want the same cores:
the last line shows what is left of the step's speed when they share the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from model.architectures import build
from model.config import NetworkConfig, TrainingConfig
from model.data.dataset import Split, load_samples
from model.training.pipeline import training_batches
from worker.demo.phantom_samples import phantom_samples
from worker.training.slices import read_training_slice

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 20  # more than is made ahead, so that no batch is counted that was there already
ROUNDS = 3


def seconds_per_call(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - started) / count


def training_step(network: keras.Model) -> Callable[..., object]:
    """Make a step of the paper's three losses: what a run computes, without its book-keeping."""
    optimizer = keras.optimizers.Adam(1e-4)
    optimizer.build(network.trainable_variables)

    @tf.function
    def step(image: tf.Tensor, mask: tf.Tensor, covid: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            outputs = network(image, training=True)
            loss = tf.reduce_mean(tf.square(outputs["reconstruction"] - image))
            overlap = tf.reduce_sum(outputs["segmentation"] * mask)
            loss -= 2 * overlap / (tf.reduce_sum(outputs["segmentation"] + mask) + 1)
            loss += tf.reduce_mean(
                keras.losses.binary_crossentropy(covid[:, None], outputs["classification"])
            )
        variables = network.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="of each of three rounds")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()

    config = TrainingConfig(
        network=NetworkConfig(
            input_size=arguments.size,
            base_filters=arguments.filters,
            classifier_filters=min(128, 8 * arguments.filters),
        ),
        batch_size=arguments.batch,
        steps_per_epoch=WARM_UP + 8 * ROUNDS * arguments.steps,
    )
    started = time.perf_counter()
    samples = (
        load_samples(arguments.data, arguments.size, read_training_slice)
        if arguments.data
        else phantom_samples(arguments.size)
    )
    loading = time.perf_counter() - started
    samples = [sample for sample in samples if sample.split is Split.TRAIN]

    batches = iter(training_batches(samples, config, 0))
    for _ in range(WARM_UP):
        batch = next(batches)
    alone = arguments.batch / seconds_per_call(lambda: next(batches), 8 * arguments.steps)
    step = training_step(build(config.network))

    def train(batch: tuple[tf.Tensor, ...]) -> None:
        float(step(batch[0], batch[1], batch[3]))

    train(batch)
    # In turn, so that whatever else the machine does meets both alike.
    batches = iter(training_batches(samples, config, 1))
    steps, both = [], []
    for _ in range(ROUNDS):
        steps.append(seconds_per_call(lambda: train(batch), arguments.steps))
        both.append(seconds_per_call(lambda: train(next(batches)), arguments.steps))
    need = arguments.batch / statistics.median(steps)
    together = arguments.batch / statistics.median(both)

    print(
        f"{len(samples)} training samples of {arguments.size} x {arguments.size} in {loading:.1f} s"
    )
    print(f"input alone                {alone:8.1f} images/s")
    print(f"training step alone        {need:8.1f} images/s")
    print(
        f"both together              {together:8.1f} images/s ({together / need:.0%} of the step)"
    )
    print(f"the input gives {alone / need:.1f} times what the step takes")


if __name__ == "__main__":
    main()
