"""From a finished run to a version in a registry: calibrated, measured and described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.calibration import (
    ComposedStudies,
    choose_operating_point,
    choose_pooling,
    compose_studies,
    fit_platt,
)
from model.config import Task, TrainingConfig
from model.dataset import Source, Split
from model.errors import RegistryError
from model.figures import Figure, measure_figures
from model.model_card import CardFacts, write_card
from model.registry import (
    CARD_FILE,
    MANIFEST_FILE,
    WEIGHTS_FILE,
    Manifest,
    RegistryEntry,
    file_sha256,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.dataset import Sample

LESION_THRESHOLD = 0.5
TRAINING_FILE = "training.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a release is called, what may be done with it, and a note on how it was trained."""

    name: str
    version: str
    licence: str
    note: str = ""


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
        Folder of a `model.training.Trainer`.
    registry
        Folder that gets the version folder ``name-version``.
    identity
        Name, version and licence.
    load
        Loads all samples for an input size.

    Raises
    ------
    RegistryError
        If the version exists already, or the run is no use: a released version never changes.
    """
    folder = registry / f"{identity.name}-{identity.version}"
    if folder.exists():
        raise RegistryError(f"{folder} exists: a released version never changes, choose another")
    try:
        config = TrainingConfig.from_json((run / "config.json").read_text())
        weights = (run / "best.npz").read_bytes()
    except OSError as error:
        raise RegistryError(f"{run}: not a finished run: {error}") from error
    samples = load(config.network.input_size)
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    outputs = _outputs(config, run / "best.npz", validation)
    raw = outputs[Task.CLASSIFICATION][:, 0]
    chosen = np.array([sample.source is Source.COVID_CT for sample in validation])
    covid = np.array([bool(sample.covid) for sample in validation])
    calibration = fit_platt(raw[chosen], covid[chosen])
    probabilities = calibration.apply(raw)
    patients = np.array([sample.patient for sample in validation])
    studies = compose_studies(probabilities[chosen], covid[chosen], patients[chosen])
    pooling, pooling_aucs = choose_pooling(studies)
    operating_point = choose_operating_point(studies.pooled(pooling), studies.covid)
    figures = measure_figures(
        validation,
        probabilities,
        outputs[Task.SEGMENTATION][..., 0] >= LESION_THRESHOLD,
        operating_point,
    )
    folder.mkdir(parents=True)
    (folder / WEIGHTS_FILE).write_bytes(weights)
    manifest = Manifest(
        name=identity.name,
        version=identity.version,
        sha256=file_sha256(folder / WEIGHTS_FILE),
        network=config.network,
        calibration=calibration,
        pooling=pooling,
        operating_point=operating_point,
        lesion_threshold=LESION_THRESHOLD,
        licence=identity.licence,
        data=_data_summary(samples),
        training_command=f"lungwatch train --data DATA/MANIFEST.csv --config {TRAINING_FILE} "
        "--out RUN",
    )
    (folder / TRAINING_FILE).write_text(config.to_json() + "\n")
    (folder / MANIFEST_FILE).write_text(manifest.to_json())
    facts = CardFacts(
        manifest,
        samples,
        (*figures, *_study_figures(studies, manifest)),
        pooling_aucs,
        identity.note,
        config.empty_mask_sources,
    )
    (folder / CARD_FILE).write_text(write_card(facts))
    return RegistryEntry(manifest, folder)


def _outputs(
    config: TrainingConfig, weights: Path, samples: Sequence[Sample]
) -> dict[str, NDArray[np.float32]]:
    # TensorFlow takes seconds to import; a refused release need not wait for it.
    from model.network import build_network  # noqa: PLC0415
    from model.validation import predict_samples  # noqa: PLC0415
    from model.weights_file import load_weights  # noqa: PLC0415

    network = build_network(config.network)
    load_weights(network, weights)
    return predict_samples(network, samples)


def _study_figures(studies: ComposedStudies, manifest: Manifest) -> tuple[Figure, ...]:
    positive = studies.pooled(manifest.pooling) >= manifest.operating_point
    count = int(studies.covid.sum())
    return (
        Figure("sensitivity", "composed studies", count, float(positive[studies.covid].mean())),
        Figure("specificity", "composed studies", count, float((~positive)[~studies.covid].mean())),
    )


def _data_summary(samples: Sequence[Sample]) -> str:
    counts: dict[str, int] = {}
    for sample in samples:
        key = f"{sample.group} {sample.split.value}"
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{key}: {count}" for key, count in sorted(counts.items()))
