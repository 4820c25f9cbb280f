"""Tiny networks as versions of a registry, and drawn figures they can be measured on."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.config import NetworkConfig
from model.data.fingerprints import training_fingerprints
from model.data.manifest import ManifestRow, Split, write_manifest
from model.files import file_sha256
from model.pooling import Calibration, Pooling
from model.registry import (
    MANIFEST_FILE,
    TRAINING_DATA_FILE,
    WEIGHTS_FILE,
    Manifest,
    RegistryEntry,
    read_entry,
)

if TYPE_CHECKING:
    from pathlib import Path

TINY = NetworkConfig(
    input_size=32, base_filters=2, classifier_filters=4, classifier_units=(8, 4), dropout=0.1
)


def write_version(
    root: Path,
    version: str,
    *,
    name: str = "tiny",
    seed: int = 0,
    network: NetworkConfig = TINY,
    calibration: Calibration | None = None,
    trained_on: Path | None = None,
    lesion_threshold: float = 0.5,
    weights: Path | None = None,
) -> RegistryEntry:
    """Write a version into a registry folder, with random weights unless some are given.

    Parameters
    ----------
    root, version, name
        Where, and what it is called.
    seed
        Decides the weights.
    network
        Shape of the network.
    calibration
        Its calibration.
    trained_on
        Manifest that it says it was trained on; None: it does not say.
    lesion_threshold
        Its threshold on pixels.
    weights
        Weights file to copy.
    """
    folder = root / f"{name}-{version}"
    folder.mkdir(parents=True)
    if weights is not None:
        shutil.copyfile(weights, folder / WEIGHTS_FILE)
    else:
        _draw_weights(network, seed, folder / WEIGHTS_FILE)
    manifest = Manifest(
        name=name,
        version=version,
        sha256=file_sha256(folder / WEIGHTS_FILE),
        network=network,
        calibration=calibration or Calibration(),
        pooling=Pooling(),
        operating_point=0.5,
        lesion_threshold=lesion_threshold,
        licence="drawn",
        data="drawn",
        slice_operating_point=0.5,
    )
    (folder / MANIFEST_FILE).write_text(manifest.to_json())
    if trained_on is not None:
        training_fingerprints(trained_on).write(folder / TRAINING_DATA_FILE)
    return read_entry(folder)


def _draw_weights(network: NetworkConfig, seed: int, path: Path) -> None:
    import keras

    from model.architectures import build
    from model.weights_file import save_weights

    keras.utils.set_random_seed(seed)
    save_weights(build(network), path)


def draw_manifest(
    path: Path,
    *,
    split: Split = Split.TEST,
    count: int = 12,
    source: str = "drawn",
    patient: str = "p",
) -> Path:
    """Draw figures of chests with and without a lesion, and the manifest that lists them."""
    generator = np.random.default_rng(list(patient.encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for covid in (True, False):
        for number in range(count):
            figure, mask = draw_chest(generator, covid=covid)
            file = f"{patient}-{int(covid)}-{number}.png"
            cv2.imwrite(str(path.parent / file), figure)
            drawn = ""
            if covid:
                drawn = f"mask-{file}"
                cv2.imwrite(str(path.parent / drawn), mask)
            name = f"{patient}{int(covid)}{number}"
            rows.append(ManifestRow(file, covid, drawn, name, source, split))
    write_manifest(path, rows)
    return path


def draw_chest(generator: np.random.Generator, *, covid: bool):
    """Draw a chest, with a grey lesion in its left lung if it is ill, and the lesion's mask."""
    figure = np.zeros((96, 128), np.uint8)
    figure[8:-8, 8:-8] = 220
    figure[20:-20, 20:56] = figure[20:-20, 72:108] = 40
    mask = np.zeros_like(figure)
    if covid:
        row = int(generator.integers(30, 50))
        figure[row : row + 20, 24:48] = 140
        mask[row : row + 20, 24:48] = 255
    return figure + generator.integers(0, 20, figure.shape).astype(np.uint8), mask
