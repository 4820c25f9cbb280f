"""Training samples from a manifest: preprocessed, split by patient, with labels that may lack."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.data.manifest import LabelOrigin, Split, read_manifest
from model.data.pictures import SliceReader
from model.data.reading import patients_of, read_rows, splits_of
from model.data.splits import hash_share, near_duplicate_groups
from model.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Sample",
    "SliceReader",
    "Split",
    "hash_share",
    "load_samples",
    "manifest_digest",
    "near_duplicate_groups",
    "require_apart",
    "require_both_classes",
    "require_labels",
    "require_measurable",
    "sources_with_both_classes",
]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One axial slice, ready for the network.

    Attributes
    ----------
    path
        Path in the manifest; a slice of a series adds ``#`` and its number.
    source, split, patient
        Where it is from; `patient` keeps everything of one person in one split.
    covid
        Class, or None where it is unknown.
    image
        Array of (input_size, input_size) and type float32, 0 to 1.
    mask
        Lesions as a boolean array of the image's shape, or None where nobody drew them.
    label_origin
        Who gave class and mask: a person or an earlier network.
    hounsfield
        Whether it came in Hounsfield units rather than as a figure.
    pixels
        Digest of the grey values of the whole slice, the same in whatever file they are stored;
        empty for a sample that was made rather than read.
    """

    path: str
    source: str
    split: Split
    patient: str
    covid: bool | None
    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None
    label_origin: LabelOrigin = LabelOrigin.HUMAN
    hounsfield: bool = False
    pixels: str = ""

    @property
    def group(self) -> str:
        """Source and class, for instance ``covid-ct/covid``; ``/unknown`` without a class."""
        label = "unknown" if self.covid is None else "covid" if self.covid else "non-covid"
        return f"{self.source}/{label}"


def load_samples(
    manifest: Path,
    input_size: int,
    read_slice: SliceReader | None = None,
    *,
    human_only: bool = False,
    progress: Callable[[float], None] | None = None,
) -> tuple[Sample, ...]:
    """Read and preprocess every sample that the manifest lists.

    Parameters
    ----------
    manifest
        A file as `model.data.manifest.read_manifest` reads it.
    input_size
        Rows and columns of the network's input.
    read_slice
        Reads DICOM slices and series; without it DICOM rows are left out, since this package
        knows no DICOM. Slices without lung are left out too, as in the product.
    human_only
        Whether rows with pseudo-labels are left out.
    progress
        Called with the share that is done, 0 to 1.

    Returns
    -------
    tuple of Sample
        In the order of the rows. A row without a split follows its patient's other rows, or the
        hash of its patient. Where the patient is unknown, near duplicates within the source count
        as one patient.

    Raises
    ------
    DatasetError
        If the manifest or a file it names cannot be read, or nothing in it can train.
    """
    listed = read_manifest(manifest)
    rows = [row for row in listed.rows if not human_only or row.label_origin is LabelOrigin.HUMAN]
    read = read_rows(listed, rows, input_size, read_slice, progress=progress)
    if not read:
        raise DatasetError(f"{manifest}: no file of it shows lung and can train")
    patients = patients_of(listed, read)
    splits = splits_of(read, patients)
    return tuple(
        Sample(
            path=each.name,
            source=each.row.source,
            split=split,
            patient=patient,
            covid=each.covid,
            image=each.image,
            mask=each.mask,
            label_origin=each.row.label_origin,
            hounsfield=each.hounsfield,
            pixels=each.pixels,
        )
        for each, patient, split in zip(read, patients, splits, strict=True)
    )


def manifest_digest(manifest: Path) -> str:
    """Return the SHA-256 of the manifest file, which names the data of a run."""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def sources_with_both_classes(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the sources that hold both classes, sorted: knowing them does not tell the class."""
    classes: dict[str, set[bool]] = {}
    for sample in samples:
        if sample.covid is not None:
            classes.setdefault(sample.source, set()).add(sample.covid)
    return tuple(sorted(source for source, found in classes.items() if len(found) == 2))


def require_labels(samples: Iterable[Sample], tasks: Collection[str]) -> None:
    """Check that training samples can teach each of a network's tasks.

    Parameters
    ----------
    samples
        All samples; those of the split ``train`` are looked at.
    tasks
        Names of the tasks, as `model.config.Task`.

    Raises
    ------
    DatasetError
        If there is a classifier and a class is empty, or a segmentation and no lesion is drawn.
    """
    training = [sample for sample in samples if sample.split is Split.TRAIN]
    if "classification" in tasks:
        require_both_classes(training, Split.TRAIN)
    drawn = any(sample.mask is not None and sample.mask.any() for sample in training)
    if "segmentation" in tasks and not drawn:
        raise DatasetError(
            "split train: on no sample a lesion is drawn; add rows with masks or train without the "
            "segmentation task"
        )


def require_measurable(samples: Iterable[Sample], tasks: Collection[str]) -> None:
    """Check that validation samples can measure what chooses the best epoch.

    Parameters
    ----------
    samples
        All samples; those of the split ``validation`` are looked at.
    tasks
        Names of the tasks, as `model.config.Task`.

    Raises
    ------
    DatasetError
        If there is a classifier and no source holds both classes, over whose pairs its AUC is
        measured, or a segmentation and no lesion is drawn for its Dice.
    """
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    if "classification" in tasks and not sources_with_both_classes(validation):
        raise DatasetError(
            "split validation: no source holds samples with and without COVID-19, so the AUC that "
            "chooses the best epoch cannot be measured; add such rows or train without the "
            "classification task"
        )
    drawn = any(sample.mask is not None and sample.mask.any() for sample in validation)
    if "segmentation" in tasks and not drawn:
        raise DatasetError(
            "split validation: on no sample a lesion is drawn, so the Dice that chooses the best "
            "epoch cannot be measured; add rows with masks or train without the segmentation task"
        )


def require_apart(samples: Iterable[Sample]) -> None:
    """Check that no image both trains and chooses the best epoch.

    Raises
    ------
    DatasetError
        If one has the same pixels in train and validation; the message names two of the files.
    """
    learned: dict[str, str] = {}
    validation: list[Sample] = []
    for sample in samples:
        if sample.pixels and sample.split is Split.TRAIN:
            learned.setdefault(sample.pixels, sample.path)
        elif sample.pixels and sample.split is Split.VALIDATION:
            validation.append(sample)
    shared = [sample for sample in validation if sample.pixels in learned]
    if shared:
        first = shared[0]
        raise DatasetError(
            f"{len(shared)} images of the split validation are in train too, for instance "
            f"{first.path}, which has the same pixels as {learned[first.pixels]}: a network that "
            "remembers them looks good. `lungwatch data check` lists such pairs; leave one of "
            "each out, or put both into one split"
        )


def require_both_classes(samples: Iterable[Sample], split: Split) -> None:
    """Check that a split can train or judge a classifier.

    Raises
    ------
    DatasetError
        If one of its classes is empty.
    """
    found = {sample.covid for sample in samples if sample.split is split}
    for covid, name in ((True, "with"), (False, "without")):
        if covid not in found:
            raise DatasetError(
                f"split {split}: holds no sample {name} COVID-19, a classifier needs both classes; "
                "add rows of that class or train without the classification task"
            )
