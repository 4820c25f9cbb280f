"""From a finished run to a version in a registry: calibrated, measured and described."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.config import Task, TrainingConfig
from model.data.dataset import Source, Split
from model.errors import RegistryError
from model.evaluation.calibration import (
    SENSITIVITY_TARGET,
    ComposedStudies,
    choose_operating_point,
    choose_pooling,
    compose_studies,
    fit_platt,
)
from model.evaluation.measures import COMPOSED_STUDIES, Measure, measure_slices
from model.model_card import CardFacts, write_card
from model.registry import (
    CARD_FILE,
    MANIFEST_FILE,
    NOT_EVALUATED,
    WEIGHTS_FILE,
    Manifest,
    RegistryEntry,
    file_sha256,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.data.dataset import Sample
    from model.pooling import Calibration, Pooling

LESION_THRESHOLD = 0.5
TRAINING_FILE = "training.json"
# The only source whose figures show both classes, which calibration needs.
CALIBRATION_SOURCE = Source.COVID_CT


@dataclass(frozen=True, slots=True)
class Identity:
    """What a release is called, what may be done with it, how it was trained, how far to trust it.

    Attributes
    ----------
    name, version
        Together the name of the version's folder.
    licence
        What may be done with the weights.
    note
        How they were trained, for the model card.
    caution
        One sentence on how far the network can be trusted; empty: nobody looked yet.
    """

    name: str
    version: str
    licence: str
    note: str = ""
    caution: str = ""


@dataclass(frozen=True)
class _Run:
    """A finished run on disk."""

    config: TrainingConfig
    weights: Path


@dataclass(frozen=True)
class _Decision:
    """How raw outputs become a study's result, and what was measured in choosing it."""

    calibration: Calibration
    pooling: Pooling
    operating_point: float
    measures: tuple[Measure, ...]
    pooling_aucs: dict[float, float]


def release_run(
    run: Path,
    registry: Path,
    identity: Identity,
    load: Callable[[int], Sequence[Sample]],
) -> RegistryEntry:
    """Calibrate a run's best weights and write them, their manifest and card into a registry.

    Parameters
    ----------
    run
        Folder of a `model.training.trainer.Trainer`.
    registry
        Folder that gets the version folder ``name-version``.
    identity
        Name, version, licence, and what the model card is to say.
    load
        Loads all samples for an input size.

    Raises
    ------
    RegistryError
        If the version exists already, or the run or its data are no use: a released version
        never changes.
    """
    folder = registry / f"{identity.name}-{identity.version}"
    if folder.exists():
        raise RegistryError(f"{folder} exists: a released version never changes, choose another")
    finished = _read_run(run)
    samples = load(finished.config.network.input_size)
    decision = _decide(finished, [each for each in samples if each.split is Split.VALIDATION])
    manifest = _manifest(finished, identity, decision, samples)
    card = write_card(
        CardFacts(
            manifest=manifest,
            samples=samples,
            measures=decision.measures,
            pooling_aucs=decision.pooling_aucs,
            note=identity.note,
            empty_mask_sources=finished.config.empty_mask_sources,
            calibration_source=CALIBRATION_SOURCE,
            sensitivity_target=SENSITIVITY_TARGET,
        )
    )
    folder.mkdir(parents=True)
    shutil.copyfile(finished.weights, folder / WEIGHTS_FILE)
    (folder / TRAINING_FILE).write_text(finished.config.to_json() + "\n")
    (folder / MANIFEST_FILE).write_text(manifest.to_json())
    (folder / CARD_FILE).write_text(card)
    return RegistryEntry(manifest, folder)


def _read_run(run: Path) -> _Run:
    weights = run / "best.npz"
    try:
        config = TrainingConfig.from_json((run / "config.json").read_text())
    except OSError as error:
        raise RegistryError(f"{run}: not a finished run: {error}") from error
    if not weights.is_file():
        raise RegistryError(f"{run}: not a finished run: it has no {weights.name}")
    return _Run(config, weights)


def _decide(run: _Run, validation: Sequence[Sample]) -> _Decision:
    """Choose calibration, pooling and operating point on the validation samples."""
    chosen = np.array([sample.source is CALIBRATION_SOURCE for sample in validation], bool)
    covid = np.array([bool(sample.covid) for sample in validation], bool)
    if np.unique(covid[chosen]).size < 2:
        raise RegistryError(
            f"the validation data need slices of {CALIBRATION_SOURCE} with and without COVID-19: "
            "calibration and operating point are chosen on them"
        )
    outputs = _outputs(run, validation)
    raw = outputs[Task.CLASSIFICATION][:, 0]
    calibration = fit_platt(raw[chosen], covid[chosen])
    probabilities = calibration.apply(raw)
    patients = np.array([sample.patient for sample in validation])
    studies = compose_studies(probabilities[chosen], covid[chosen], patients[chosen])
    pooling, pooling_aucs = choose_pooling(studies)
    pooled = studies.pooled(pooling)
    operating_point = choose_operating_point(pooled, studies.covid)
    lesions = outputs[Task.SEGMENTATION][..., 0] >= LESION_THRESHOLD
    return _Decision(
        calibration,
        pooling,
        operating_point,
        (
            *measure_slices(validation, probabilities, lesions, operating_point),
            *_measure_studies(studies, pooled >= operating_point),
        ),
        pooling_aucs,
    )


def _manifest(
    run: _Run, identity: Identity, decision: _Decision, samples: Sequence[Sample]
) -> Manifest:
    return Manifest(
        name=identity.name,
        version=identity.version,
        sha256=file_sha256(run.weights),
        network=run.config.network,
        calibration=decision.calibration,
        pooling=decision.pooling,
        operating_point=decision.operating_point,
        lesion_threshold=LESION_THRESHOLD,
        licence=identity.licence,
        data=_data_summary(samples),
        training_command=f"lungwatch train --data DATA/MANIFEST.csv --config {TRAINING_FILE} "
        "--out RUN",
        caution=identity.caution or NOT_EVALUATED,
    )


def _outputs(run: _Run, samples: Sequence[Sample]) -> dict[str, NDArray[np.float32]]:
    # TensorFlow takes seconds to import; a refused release need not wait for it.
    from model.architectures import build  # noqa: PLC0415
    from model.evaluation.validation import predict_samples  # noqa: PLC0415
    from model.weights_file import load_weights  # noqa: PLC0415

    network = build(run.config.network, initialise=False)
    load_weights(network, run.weights)
    return predict_samples(network, samples)


def _measure_studies(studies: ComposedStudies, positive: NDArray[np.bool_]) -> tuple[Measure, ...]:
    truth, on = studies.covid, COMPOSED_STUDIES
    return (
        Measure("sensitivity", on, int(truth.sum()), float(positive[truth].mean())),
        Measure("specificity", on, int((~truth).sum()), float((~positive)[~truth].mean())),
    )


def _data_summary(samples: Sequence[Sample]) -> str:
    counts: dict[str, int] = {}
    for sample in samples:
        key = f"{sample.group} {sample.split.value}"
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{key}: {count}" for key, count in sorted(counts.items()))
