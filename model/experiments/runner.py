"""Runs one experiment in a folder: train, take the chosen epoch, report on the held-out part."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from model.config import TrainingConfig
from model.errors import ConfigError, DatasetError, TrainingError
from model.experiments.experiment import BUDGETS, Procedure, Scale
from model.experiments.figures import measure
from model.experiments.held_out import parts_of, shares
from model.experiments.procedures import Work, carry_out
from model.experiments.result import RunResult
from model.files import write_text
from model.training.environment import code_commit
from model.training.run_folder import LOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from model.data.dataset import Sample
    from model.experiments.experiment import Experiment

SETTINGS = "settings.json"
RESULT = "result.json"
CPU_SECONDS = "cpu_seconds.txt"


@dataclass(frozen=True)
class Order:
    """How an experiment is to be run.

    Attributes
    ----------
    scale, steps
        See `Experiment.config`.
    resume
        Go on with what the folder holds.
    imagenet_weights
        File of ImageNet weights for the networks that have some.
    """

    scale: Scale = Scale.REDUCED
    steps: int = 0
    resume: bool = False
    imagenet_weights: str = ""


def settings(experiment: Experiment, order: Order, samples: Sequence[Sample]) -> TrainingConfig:
    """Return the run's settings for these samples.

    Parameters
    ----------
    experiment, order
        What to run, and how.
    samples
        The fitted samples: at the reduced scale those with masks are drawn more often.
    """
    config = experiment.config(order.scale, order.steps)
    if order.imagenet_weights:
        network = replace(config.network, imagenet_weights=order.imagenet_weights)
        config = replace(config, network=network)
    if order.scale is Scale.FULL:
        return config
    return replace(config, source_shares=shares(samples, BUDGETS[experiment.table].masked_share))


def run_experiment(
    experiment: Experiment,
    samples: Sequence[Sample],
    data_sha256: str,
    folder: Path,
    order: Order,
    report: Callable[[str], None] = lambda _: None,
) -> RunResult:
    """Run an experiment, or the rest of it, or return what a finished one gave.

    Parameters
    ----------
    experiment
        The row.
    samples
        Samples of the size its config asks for, as a manifest splits them.
    data_sha256
        Of the manifest.
    folder
        The run's own folder.
    order
        Scale, steps, whether to resume.
    report
        Takes one line of progress.

    Raises
    ------
    TrainingError
        If the folder holds a run already and it is not to be resumed, or one with other settings.
    DatasetError
        If the samples cannot train or measure the row; nothing is left in the folder then.
    """
    finished = folder / RESULT
    if folder.exists() and any(folder.iterdir()) and not order.resume:
        raise TrainingError(f"{folder} holds a run already: add --resume, or choose another folder")
    parts = parts_of(samples)
    config = settings(experiment, order, parts.fitted)
    _refuse_other_settings(folder / SETTINGS, config, data_sha256)
    if finished.exists():
        return RunResult.read(finished)
    clock = _Clock(folder / CPU_SECONDS)

    def tell(line: str) -> None:
        clock.note()
        report(f"{experiment.name}  {line}")

    work = Work(
        config, parts.fitted, parts.reported, folder, _same_network(experiment, folder), tell
    )
    try:
        outcome = carry_out(experiment.procedure, work)
    except DatasetError:
        _leave_nothing(folder)
        raise
    clock.note()
    result = RunResult(
        experiment=experiment.name,
        scale=order.scale,
        input_size=config.network.input_size,
        parameters=outcome.parameters,
        steps=outcome.steps,
        batch_size=config.batch_size,
        seed=config.seed,
        epoch_steps=outcome.steps // max(outcome.epochs, 1),
        best_epoch=outcome.best_epoch,
        best_score=outcome.best_score,
        cpu_seconds=round(clock.seconds, 1),
        seconds=round(outcome.seconds, 1),
        data_sha256=data_sha256,
        protocol=parts.how,
        figures=measure(outcome.reported, outcome.outputs),
        note=outcome.note,
        git_commit=code_commit(),
        learning_rate=config.learning_rate,
        masked_share=BUDGETS[experiment.table].masked_share if config.source_shares else 0.0,
    )
    result.write(finished)
    return result


def _leave_nothing(folder: Path) -> None:
    """Take back the settings of a run whose data were refused before it began."""
    if {each.name for each in folder.iterdir()} <= {SETTINGS, LOCK}:
        for name in (SETTINGS, LOCK):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _same_network(experiment: Experiment, folder: Path) -> Path | None:
    """Return a finished run beside this one with the same settings, for features taken from it."""
    other = folder.parent / experiment.full.network.architecture.value
    if experiment.procedure is not Procedure.FEATURES_AND_SVM or not (other / RESULT).exists():
        return None
    same = (other / SETTINGS).read_text() == (folder / SETTINGS).read_text()
    return other if same else None


class _Clock:
    """Processor time of a run over all its sessions, kept in a file of its folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(path.read_text()) if path.exists() else 0.0
        self._started = time.process_time()

    @property
    def seconds(self) -> float:
        return self._before + time.process_time() - self._started

    def note(self) -> None:
        write_text(self._path, f"{self.seconds:.1f}\n")


def _refuse_other_settings(path: Path, config: TrainingConfig, data_sha256: str) -> None:
    document = {"data_sha256": data_sha256, "config": json.loads(config.to_json())}
    if not path.exists():
        write_text(path, json.dumps(document, indent=2) + "\n")
        return
    try:
        kept = json.loads(path.read_text())
        same = (
            kept["data_sha256"] == data_sha256
            and TrainingConfig.from_dict(kept["config"]) == config
        )
    except (ConfigError, KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise TrainingError(
            f"{path.parent} holds a run with other settings or other data; choose another folder"
        )
