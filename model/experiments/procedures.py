"""How the system of a row is trained and then run on the reported samples."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import keras
import numpy as np

from model.architectures import build
from model.baselines.svm import SupportVectorMachine, fit_machine
from model.baselines.transfer import FEATURES
from model.config import Architecture, Task
from model.data.dataset import Split
from model.errors import TrainingError
from model.evaluation.metrics import dice, roc_auc
from model.evaluation.validation import predict_samples
from model.experiments.crops import make_crop
from model.experiments.experiment import Procedure
from model.training.trainer import Trainer
from model.weights_file import load_weights, save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.config import NetworkConfig, TrainingConfig
    from model.data.dataset import Sample

HELD_OUT_CROPS = 16


@dataclass(frozen=True)
class Work:
    """A run's settings, samples, folder and listener.

    Attributes
    ----------
    config
        Settings of the run.
    fitted, reported
        See `model.experiments.held_out.Parts`.
    folder
        The run's folder.
    same_network
        Folder of a finished run with the same settings, whose network can be taken, or None.
    report
        Takes one line of progress.
    """

    config: TrainingConfig
    fitted: Sequence[Sample]
    reported: Sequence[Sample]
    folder: Path
    same_network: Path | None
    report: Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a procedure gave.

    Attributes
    ----------
    reported, outputs
        Samples, and the outputs for them by task.
    parameters, steps, epochs, best_epoch, best_score, seconds
        Size of the network and course of its training.
    note
        What else must be known to read the figures.
    """

    reported: Sequence[Sample]
    outputs: Mapping[str, NDArray[np.float32]]
    parameters: int
    steps: int
    epochs: int
    best_epoch: int
    best_score: float
    seconds: float
    note: str = ""


def carry_out(procedure: Procedure, work: Work) -> Outcome:
    """Train a row's system, or the rest of it, and run it on the reported samples.

    Raises
    ------
    TrainingError
        If the training cannot go on.
    """
    return _PROCEDURES[procedure](work)


def _train(
    config: TrainingConfig, work: Work, folder: Path, start_from: Sequence[Path] = ()
) -> Trainer:
    trainer = Trainer(config, work.fitted, folder, start_from)
    trainer.resume()
    trainer.run(work.report)
    return trainer


def _outcome(trainer: Trainer, network: keras.Model, work: Work, note: str = "") -> Outcome:
    state = trainer.state
    return Outcome(
        work.reported,
        predict_samples(network, work.reported),
        network.count_params(),
        state.step,
        state.epoch,
        state.best_epoch,
        state.best_score,
        state.seconds,
        note,
    )


def _one_network(work: Work) -> Outcome:
    trainer = _train(work.config, work, work.folder)
    network = build(work.config.network, initialise=False)
    load_weights(network, work.folder / "best.npz")
    return _outcome(trainer, network, work)


def stages(whole: NetworkConfig) -> tuple[NetworkConfig, NetworkConfig]:
    """Return the networks that the stages of a two-stage system train."""
    lesions = replace(
        whole,
        architecture=Architecture.UNET_PLUS_PLUS,
        tasks=(Task.SEGMENTATION,),
        imagenet_weights="",
    )
    return lesions, replace(whole, tasks=(Task.CLASSIFICATION,))


def begin_second_stage(whole: NetworkConfig, lesions: Path, start: Path, seed: int) -> None:
    """Write the weights the second stage begins with: the first one's as it was trained.

    Parameters
    ----------
    whole
        The two-stage network.
    lesions
        Weights of its first stage.
    start
        File to write.
    seed
        Seed of the second stage's own weights.
    """
    keras.utils.set_random_seed(seed)
    first_config, second_config = stages(whole)
    network, first = build(second_config), build(first_config)
    load_weights(first, lesions)
    for layer in first.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    save_weights(network, start)


def _two_stages(work: Work) -> Outcome:
    """Train U-Net++ alone; then ResNet50 on image and lesions, with the U-Net++ held fast."""
    whole, folder = work.config.network, work.folder
    first, second = stages(whole)
    _train(replace(work.config, network=first), work, folder / "lesions")
    start = folder / "start.npz"
    if not start.exists():
        begin_second_stage(whole, folder / "lesions" / "best.npz", start, work.config.seed)
    config = replace(work.config, network=replace(second, imagenet_weights=""))
    trainer = _train(config, work, folder / "classes", [start])
    network = build(whole, initialise=False)
    load_weights(network, folder / "classes" / "best.npz")
    return _outcome(trainer, network, work, "each of the two stages took the row's steps")


def _features_and_svm(work: Work) -> Outcome:
    """Fit a support vector machine on ResNet50's pooled features.

    From ImageNet weights where they are given, as Sethy et al. do; without them ResNet50 is
    trained first, or taken from a finished run of the same settings.
    """
    config = work.config.network
    network = build(config)
    if config.imagenet_weights:
        steps, note = 0, "features of ImageNet weights, not trained further"
    elif work.same_network is not None:
        load_weights(network, work.same_network / "best.npz")
        steps, note = 0, f"features of the network of row {work.same_network.name}"
    else:
        steps, note = _train(work.config, work, work.folder).state.step, ""
        load_weights(network, work.folder / "best.npz")
    pooled = keras.Model(network.input, network.get_layer(FEATURES).output)
    known = [sample for sample in work.fitted if sample.covid is not None]
    training = [sample for sample in known if sample.split is Split.TRAIN]
    selection = [sample for sample in known if sample.split is Split.VALIDATION]
    machine = fit_machine(
        _features(pooled, training),
        np.array([bool(sample.covid) for sample in training]),
        _features(pooled, selection),
        np.array([bool(sample.covid) for sample in selection]),
        roc_auc,
    )
    machine.save(work.folder / "machine.npz")
    machine = SupportVectorMachine.load(work.folder / "machine.npz")
    probability = machine.probabilities(_features(pooled, work.reported))
    outputs = {Task.CLASSIFICATION.value: probability.astype(np.float32)}
    return Outcome(work.reported, outputs, network.count_params(), steps, 0, 0, 0.0, 0.0, note)


def _features(pooled: keras.Model, samples: Sequence[Sample]) -> NDArray[np.float32]:
    images = np.stack([sample.image for sample in samples])[..., None]
    features: NDArray[np.float32] = pooled.predict(images, 8, verbose=0)
    return features


def _crops(work: Work) -> Outcome:
    """Train the 3-D network on made-up crops; it is short, so a stopped run begins again."""
    config = work.config
    size, seed = config.network.input_size, config.seed
    keras.utils.set_random_seed(seed)
    started = time.monotonic()
    network = build(config.network)
    network.compile(keras.optimizers.Adam(config.learning_rate), keras.losses.Dice(axis=None))
    steps = config.epochs * (config.steps_per_epoch or 1)
    losses: list[float] = []
    for step in range(steps):
        numbers = range(step * config.batch_size, (step + 1) * config.batch_size)
        crops = [make_crop(size, number, seed) for number in numbers]
        loss = float(network.train_on_batch(_images(crops), _masks(crops)))
        if not np.isfinite(loss):
            raise TrainingError(f"segmentation loss is {loss} at step {step + 1}")
        losses.append(loss)
        if step % 10 == 9:
            work.report(f"step {step + 1}  segmentation_loss {np.mean(losses[-10:]):.4f}")
    save_weights(network, work.folder / "best.npz")
    held_out = [make_crop(size, number, seed + 1) for number in range(HELD_OUT_CROPS)]
    outputs = network.predict(_images(held_out), config.batch_size, verbose=0)
    predicted = outputs[Task.SEGMENTATION.value][..., 0] >= 0.5
    score = float(np.mean([dice(c.mask, p) for c, p in zip(held_out, predicted, strict=True)]))  # type: ignore[arg-type]
    return Outcome(
        held_out,
        outputs,
        network.count_params(),
        steps,
        1,
        1,
        score,
        time.monotonic() - started,
        "made-up crops: shows that it trains, says nothing about CT",
    )


def _images(samples: Sequence[Sample]) -> NDArray[np.float32]:
    return np.stack([sample.image for sample in samples])[..., None]


def _masks(samples: Sequence[Sample]) -> dict[str, NDArray[np.float32]]:
    masks = np.stack([np.asarray(sample.mask, np.float32) for sample in samples])[..., None]
    return {Task.SEGMENTATION.value: masks}


_PROCEDURES: dict[Procedure, Callable[[Work], Outcome]] = {
    Procedure.ONE_NETWORK: _one_network,
    Procedure.TWO_STAGES: _two_stages,
    Procedure.FEATURES_AND_SVM: _features_and_svm,
    Procedure.CROPS: _crops,
}
