"""Build experiments at the paper's full scale, train a step, stop, resume and train another.

On made-up images, with one image in each batch: 45 million parameters, their optimizer and their
checkpoints need about 3 GiB of memory at 256 x 256, and half a minute to a few minutes of processor
time for each row.

    python bench/full_scale.py [NAME ...]      without names: the eight rows of Table 2
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.data.dataset import Sample, Split
from model.experiments import get, names
from model.experiments.experiment import Scale, Table
from model.training.trainer import Trainer


class Stopped(Exception):  # noqa: N818 - it is no error
    """Raised behind the first epoch."""


def samples(size: int) -> list[Sample]:
    generator = np.random.default_rng(0)
    made = []
    for number in range(8):
        image = generator.random((size, size), np.float32)
        split = Split.VALIDATION if number >= 6 else Split.TRAIN
        mask = image > 0.9
        made.append(
            Sample(str(number), "made up", split, str(number), number % 2 == 0, image, mask)
        )
    return made


def try_row(name: str, folder: Path) -> str:
    full = get(name).config(Scale.FULL)
    config = replace(full, batch_size=1, steps_per_epoch=1, epochs=2)
    started = time.process_time()

    def stop(line: str) -> None:
        if "epoch 1" in line and "score" in line:
            raise Stopped

    data = samples(config.network.input_size)
    first = Trainer(config, data, folder)
    parameters = first.network.count_params()
    try:
        first.run(stop)
    except Stopped:
        del first
    second = Trainer(config, data, folder)
    second.resume()
    resumed_at = second.state.step
    state = second.run()
    assert (resumed_at, state.step) == (1, 2)
    losses = ", ".join(
        f"{key} {value:.3f}" for key, value in state.history[-1].items() if key.endswith("_loss")
    )
    return (
        f"{name}: {parameters:,} parameters, resumed at step {resumed_at}, ended at {state.step}; "
        f"{losses}; {time.process_time() - started:.0f} s of CPU, peak "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


def main() -> None:
    for name in sys.argv[1:] or names(Table.TABLE2):
        with tempfile.TemporaryDirectory() as folder:
            print(try_row(name, Path(folder) / name), flush=True)


if __name__ == "__main__":
    main()
