"""Kill training with SIGKILL at random moments and compare what the resumed runs end with.

A tiny network is trained on generated images in a process of its own, first without interruption,
then once for each kill: killed at a moment drawn evenly over its steps, resumed, and compared
bit by bit with the unbroken run: weights, moments, averages, dropout's seeds, figures.

    python bench/training_resume.py [--kills 20] [--seed 1] [--out docs/results/resume.md]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.config import (
    AugmentationConfig,
    NetworkConfig,
    Normalisation,
    Schedule,
    Task,
    TrainingConfig,
)
from model.data.dataset import Sample, Split
from model.training.checkpoint import CURRENT
from model.training.trainer import Trainer

if TYPE_CHECKING:
    from multiprocessing.context import BaseContext
    from multiprocessing.sharedctypes import Synchronized

CONFIG = TrainingConfig(
    network=NetworkConfig(
        input_size=32,
        base_filters=2,
        tasks=(Task.SEGMENTATION, Task.CLASSIFICATION),
        normalisation=Normalisation.BATCH,
        classifier_filters=4,
        classifier_units=(8, 4),
    ),
    augmentation=AugmentationConfig(),
    epochs=3,
    steps_per_epoch=20,
    schedule=Schedule.COSINE,
    averaging=0.9,
    weight_decay=1e-4,
    gradient_clip=5.0,
    label_smoothing=0.05,
    segmentation_warm_up_steps=30,
    checkpoint_steps=3,
)


def generated_samples() -> list[Sample]:
    """Return noise with a bright square in half of the images, which are the COVID ones."""
    generator = np.random.default_rng(0)
    samples = []
    for number in range(48):
        covid = number % 2 == 0
        image = generator.random((32, 32), np.float32) * np.float32(0.5)
        mask = np.zeros(image.shape, np.bool_)
        if covid:
            row, column = generator.integers(4, 20, 2)
            mask[row : row + 8, column : column + 8] = True
            image[mask] += np.float32(0.4)
        split = Split.VALIDATION if number >= 40 else Split.TRAIN
        has_mask = covid and number % 4 == 0
        samples.append(
            Sample(
                f"{number}", "drawn", split, f"{number}", covid, image, mask if has_mask else None
            )
        )
    return samples


class WatchedTrainer(Trainer):
    """Tells another process how many steps are over."""

    counter: Synchronized[int]

    def _require_numbers(self, losses: dict[str, float]) -> None:
        super()._require_numbers(losses)
        self.counter.value = self.state.step + 1


def train(folder: str, counter: Synchronized[int]) -> None:
    """Train, or go on with what a killed process left."""
    trainer = WatchedTrainer(CONFIG, generated_samples(), Path(folder))
    trainer.counter = counter
    trainer.resume()
    trainer.run()


def run_until(processes: BaseContext, folder: Path, moment: float | None) -> None:
    """Train in a process of its own, killed at a moment told in steps, or to the end."""
    folder.mkdir(exist_ok=True)
    counter = processes.Value("i", 0)
    process = processes.Process(target=train, args=(str(folder), counter))
    process.start()
    if moment is None:
        process.join()
        if process.exitcode != 0:
            sys.exit(f"{folder}: training ended with {process.exitcode}")
        return
    begun = step_begun = time.monotonic()
    steps, seconds = 0, 0.0
    while process.is_alive() and counter.value < int(moment):
        time.sleep(0.001)
        if counter.value != steps:
            steps, now = counter.value, time.monotonic()
            seconds, step_begun = now - step_begun, now
    # Somewhere within the next step, or within the checkpoint behind it.
    time.sleep((moment % 1) * (seconds or time.monotonic() - begun))
    process.kill()
    process.join()


def compare(reference: Path, other: Path) -> float:
    """Return the largest difference of anything a checkpoint or the weights hold."""
    largest = 0.0
    for name in (f"last/{CURRENT}", "best.npz", "last.npz"):
        with np.load(reference / name) as ours, np.load(other / name) as theirs:
            if ours.files != theirs.files:
                return float("inf")
            for key in set(ours.files) - {"state", "sha256"}:
                if not np.array_equal(ours[key], theirs[key]):
                    difference = np.abs(ours[key].astype(float) - theirs[key].astype(float))
                    largest = max(largest, float(difference.max()))
    if figures(reference) != figures(other):
        largest = largest or float("inf")
    return largest


def figures(folder: Path) -> list[dict[str, float]]:
    """Return the rows of the run, without the time they took."""
    with np.load(folder / "last" / CURRENT) as stored:
        history = json.loads(stored["state"].tobytes())["history"]
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


def reached(folder: Path) -> int:
    """Return the step of the newest checkpoint; a run killed before the first has reached none."""
    try:
        with np.load(folder / "last" / CURRENT) as stored:
            return int(json.loads(stored["state"].tobytes())["step"])
    except FileNotFoundError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="Markdown file for the result.")
    options = parser.parse_args()
    # A server that has imported TensorFlow but not used it saves each process those seconds.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["model.training.trainer"])
    generator = np.random.default_rng(options.seed)
    total = CONFIG.epochs * CONFIG.steps_per_epoch
    differences: list[float] = []
    steps: list[int] = []
    with tempfile.TemporaryDirectory() as root:
        reference = Path(root) / "reference"
        run_until(processes, reference, None)
        for number in range(options.kills):
            folder = Path(root) / f"killed-{number}"
            run_until(processes, folder, float(generator.uniform(0, total)))
            steps.append(reached(folder))
            run_until(processes, folder, None)
            differences.append(compare(reference, folder))
            print(f"killed near step {steps[-1]}: difference {differences[-1]}", file=sys.stderr)
            if options.out:
                options.out.write_text(page(summary(steps, differences)))
    result = summary(steps, differences)
    print(json.dumps(result, indent=2))
    if not result["pass"]:
        sys.exit(1)


def summary(steps: list[int], differences: list[float]) -> dict[str, Any]:
    """Put together what the trials so far gave."""
    total = CONFIG.epochs * CONFIG.steps_per_epoch
    return {
        "trials": len(steps),
        "signal": signal.SIGKILL.name,
        "killed_before_the_end": sum(step < total for step in steps),
        "last_checkpoints_at_step": sorted(steps),
        "steps": total,
        "bit_equal": sum(difference == 0 for difference in differences),
        "max_difference": max(differences),
        "pass": all(difference == 0 for difference in differences),
    }


def page(result: dict[str, Any]) -> str:
    """Write the result for a reader."""
    return f"""# Training killed and resumed

Written by `python bench/training_resume.py --out docs/results/resume.md`.

A small network (lesions and class; batch normalisation, dropout, augmentation, cosine schedule,
weight decay, clipping, averaged weights) was trained for {result["steps"]} steps with a
checkpoint every {CONFIG.checkpoint_steps} steps and after each epoch. Further runs were stopped
with {result["signal"]} at moments drawn evenly over these steps, then resumed. Compared
with the unbroken run, bit by bit: weights, batch statistics, optimizer, averaged weights, dropout's
seeds, best weights, and the figures of each epoch.

| | |
| --- | --- |
| runs killed | {result["trials"]} |
| of them before their last checkpoint | {result["killed_before_the_end"]} |
| newest checkpoint at step | {", ".join(map(str, result["last_checkpoints_at_step"]))} |
| bit-equal to the unbroken run | {result["bit_equal"]} |
| largest difference | {result["max_difference"]:g} |
| verdict | {"PASS" if result["pass"] else "FAIL"} |
"""


if __name__ == "__main__":
    main()
