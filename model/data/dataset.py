"""Training samples from a manifest of files, split by patient, with labels that may be absent."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.errors import DatasetError, NoLungError
from model.lungs import find_lungs
from model.preprocessing import (
    Box,
    Geometry,
    apply_window,
    figure_to_unit,
    lung_box,
    slice_to_input,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from model.volume import CtVolume

    SliceReader = Callable[[Path], CtVolume]

NEAR_DUPLICATE_CORRELATION = 0.93


class Source(StrEnum):
    """Folders of the manifest that may train; whatever else it lists is left alone."""

    COVID_CT = "covid-ct"
    SEMISEG = "covid-semiseg"
    LUNA = "luna-noncovid"
    TCGA = "tcga-luad-slices"


class Split(StrEnum):
    """Part of the data a patient belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One axial slice, ready for the network.

    Attributes
    ----------
    path
        Path in the manifest.
    source, split, patient
        Where it is from; `patient` keeps everything of one person in one split.
    covid
        Class, or None where it is unknown.
    image
        Array of (input_size, input_size) and type float32, 0 to 1.
    mask
        Lesions as a boolean array of the image's shape, or None where nobody drew them.
    """

    path: str
    source: Source
    split: Split
    patient: str
    covid: bool | None
    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None

    @property
    def group(self) -> str:
        """Source and class, for instance ``covid-ct/covid``."""
        return f"{self.source.value}/{'covid' if self.covid else 'non-covid'}"


def load_samples(
    manifest: Path, input_size: int, read_slice: SliceReader | None = None
) -> tuple[Sample, ...]:
    """Read and preprocess every sample that the manifest lists for training and validation.

    Parameters
    ----------
    manifest
        CSV file with the columns path, patient and label; paths are relative to its folder.
    input_size
        Rows and columns of the network's input.
    read_slice
        Reads a DICOM file into a volume of one slice; without it DICOM files are left out, since
        this package knows no DICOM. Slices without lung are left out too, as in the product.

    Raises
    ------
    DatasetError
        If the manifest or a file it names cannot be read, or nothing in it can train.
    """
    samples: list[Sample] = []
    semiseg: list[tuple[str, Path]] = []
    for row in _rows(manifest):
        path, name = manifest.parent / row["path"], row["path"]
        source = _source(name)
        if source is Source.SEMISEG:
            if "/img/" in name:
                semiseg.append((name, path))
            continue
        read = _read(path, read_slice) if source else None
        if source is None or read is None:
            continue
        unit, box = read
        samples.append(
            Sample(
                path=name,
                source=source,
                split=_split(name, source, row["patient"]),
                patient=f"{source.value}:{row['patient'] or name}",
                covid=row["label"] == "COVID",
                image=slice_to_input(unit, _geometry(unit, box, input_size)),
            )
        )
    samples += _semiseg_samples(semiseg, input_size)
    if not samples:
        raise DatasetError(f"{manifest}: lists no file of {', '.join(Source)}")
    return tuple(samples)


def manifest_digest(manifest: Path) -> str:
    """Return the SHA-256 of the manifest file, which names the data of a run."""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def hash_share(key: str) -> float:
    """Map a key to a number in [0, 1) that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def near_duplicate_groups(images: Iterable[NDArray[np.float32]]) -> list[int]:
    """Give images numbers so that near duplicates, also through others, have the same number.

    Parameters
    ----------
    images
        Grey images in 0..1; two whose 24 x 24 thumbnails correlate above
        `NEAR_DUPLICATE_CORRELATION` count as views of the same patient.
    """
    thumbnails = [cv2.resize(image, (24, 24), interpolation=cv2.INTER_AREA) for image in images]
    groups = list(range(len(thumbnails)))
    if len(thumbnails) < 2:
        return groups
    correlation = np.corrcoef([thumbnail.ravel() for thumbnail in thumbnails])
    for first, second in np.argwhere(np.triu(correlation, 1) > NEAR_DUPLICATE_CORRELATION):
        low, high = sorted((groups[first], groups[second]))
        groups = [low if group == high else group for group in groups]
    return groups


def _rows(manifest: Path) -> list[dict[str, str]]:
    try:
        with manifest.open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DatasetError(f"{manifest}: cannot be read: {error.strerror}") from error
    if not rows or not {"path", "label", "patient"} <= rows[0].keys():
        raise DatasetError(f"{manifest}: needs the columns path, label and patient")
    return rows


def _source(name: str) -> Source | None:
    folder, _, rest = name.partition("/")
    is_image = rest.endswith((".png", ".jpg", ".jpeg", ".dcm"))
    return Source(folder) if folder in set(Source) and is_image else None


def _split(name: str, source: Source, patient: str) -> Split:
    """COVID-CT brings its own split; of the others a fifth of the patients is held out."""
    if source is Source.COVID_CT:
        return Split.VALIDATION if "/val/" in name else Split.TRAIN
    return Split.VALIDATION if hash_share(patient or name) < 0.2 else Split.TRAIN


def _read(path: Path, read_slice: SliceReader | None) -> tuple[NDArray[np.float32], Box] | None:
    """Return greys in 0..1 and the box around the lungs, or None for what is left out."""
    if path.suffix != ".dcm":
        unit = figure_to_unit(_read_figure(path))
        return unit, lung_box(unit)
    if read_slice is None:
        return None
    volume = read_slice(path)
    try:
        box = find_lungs(volume).box
    except NoLungError:
        return None
    return apply_window(volume.hounsfield[0]), box


def _read_figure(path: Path) -> NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if pixels is None:
        raise DatasetError(f"{path}: named by the manifest, but no readable image")
    return pixels.astype(np.uint8, copy=False)


def _geometry(unit: NDArray[np.float32], box: Box, input_size: int) -> Geometry:
    return Geometry((unit.shape[0], unit.shape[1]), box, input_size)


def _semiseg_samples(files: list[tuple[str, Path]], input_size: int) -> list[Sample]:
    """Read SemiSeg: image and mask are stored transposed; near duplicates stay together."""
    units = [figure_to_unit(_read_figure(path)).T for _, path in files]
    groups = near_duplicate_groups(units)
    samples = []
    for (name, path), unit, group in zip(files, units, groups, strict=True):
        mask_path = path.parent.parent / "mask" / f"{path.stem}.png"
        mask = _read_figure(mask_path).T > 0
        if mask.shape != unit.shape:
            raise DatasetError(f"{mask_path}: {mask.shape}, but its image has {unit.shape}")
        box = Box.whole((unit.shape[0], unit.shape[1]))  # these figures are cut at the lungs
        # The group's first member names it, so that the split does not hang on the file order.
        key = min(files[i][0] for i, other in enumerate(groups) if other == group)
        geometry = _geometry(unit, box, input_size)
        held_out = hash_share(key) < 0.2
        samples.append(
            Sample(
                path=name,
                source=Source.SEMISEG,
                split=Split.VALIDATION if held_out else Split.TRAIN,
                patient=f"{Source.SEMISEG.value}:{key}",
                covid=True,
                image=slice_to_input(unit, geometry),
                mask=geometry.mask_to_input(mask),
            )
        )
    return samples
