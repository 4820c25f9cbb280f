"""The rows of a manifest as the network's inputs, with the patient and the split of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from model.data.pictures import Picture, SliceReader, read_pictures
from model.data.splits import hashed_split, near_duplicate_groups, thumbnail
from model.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from model.data.manifest import Manifest, ManifestRow, Split


@dataclass(frozen=True, slots=True, eq=False)
class ReadPicture:
    """One slice that was read.

    Attributes
    ----------
    row, name
        The row it is from; the row's path, a slice of a series adds its number.
    covid
        Class, or None where it is unknown.
    image, mask
        As the network takes them, (size, size); no mask where nobody drew.
    hounsfield
        Whether it came in Hounsfield units.
    small
        Thumbnail of the whole slice, (24, 24).
    pixels
        Digest of its grey values, the same for exact duplicates in any file.
    of_series
        Whether it is one of several slices of its row.
    lung_cm2
        Area of lung on a single DICOM slice; None where it is not known.
    """

    row: ManifestRow
    name: str
    covid: bool | None
    image: NDArray[np.float32]
    mask: NDArray[np.bool_] | None
    hounsfield: bool
    small: NDArray[np.float32]
    pixels: str
    of_series: bool
    lung_cm2: float | None = None


def read_rows(
    manifest: Manifest,
    rows: Sequence[ManifestRow],
    size: int,
    read_slice: SliceReader | None,
    *,
    progress: Callable[[float], None] | None = None,
    unreadable: list[tuple[ManifestRow, str]] | None = None,
) -> list[ReadPicture]:
    """Read rows of a manifest in order.

    Parameters
    ----------
    manifest, rows
        The rows and where they are from.
    size
        Rows and columns of the inputs.
    read_slice
        Reads DICOM; without it DICOM rows are left out.
    progress
        Called with the share that is done, 0 to 1.
    unreadable
        Takes the rows that cannot be read, with the reason; without it the first one is an error.

    Raises
    ------
    DatasetError
        If a row cannot be read and `unreadable` is None.
    """
    read: list[ReadPicture] = []
    for done, row in enumerate(rows, 1):
        try:
            pictures = read_pictures(manifest, row, read_slice)
            read += [_read(row, picture, size) for picture in pictures]
        except DatasetError as error:
            if unreadable is None:
                raise
            unreadable.append((row, str(error)))
        if progress:
            progress(done / len(rows))
    return read


def patients_of(manifest: Manifest, read: Sequence[ReadPicture]) -> list[str]:
    """Name the patient of each picture: as given within the source, else by its near duplicates.

    A series without a patient is a patient of its own, named by its folder.
    """
    names = [
        f"{each.row.source}:{each.row.patient or PurePath(each.row.path).name}" for each in read
    ]
    unknown: dict[str, list[int]] = {}
    for index, each in enumerate(read):
        if not each.row.patient and not each.of_series:
            unknown.setdefault(each.row.source, []).append(index)
    for source, indices in unknown.items():
        keys = [_content_key(manifest, read[index].row) for index in indices]
        groups = near_duplicate_groups([read[index].small for index in indices])
        first: dict[int, str] = {}
        for group, key in zip(groups, keys, strict=True):
            # Named by content: neither order nor place of the files moves anyone elsewhere.
            first[group] = min(first.get(group, key), key)
        for index, group in zip(indices, groups, strict=True):
            names[index] = f"{source}:cluster {first[group]}"
    return names


def splits_of(read: Sequence[ReadPicture], patients: Sequence[str]) -> list[Split]:
    """Give each picture its row's split, else that of its patient, else one by hash."""
    given = {
        patient: each.row.split
        for each, patient in zip(read, patients, strict=True)
        if each.row.split is not None
    }
    return [
        each.row.split or given.get(patient) or hashed_split(each.row.patient or patient)
        for each, patient in zip(read, patients, strict=True)
    ]


def _read(row: ManifestRow, picture: Picture, size: int) -> ReadPicture:
    image, mask = picture.inputs(size)
    covid = row.covid
    if covid and picture.of_series and picture.lesions is not None and not picture.lesions.any():
        covid = None  # a slice of an ill person on which a reader saw nothing shows neither class
    digest = hashlib.sha256(repr(picture.unit.shape).encode())
    digest.update(picture.unit.tobytes())
    return ReadPicture(
        row=row,
        name=picture.name,
        covid=covid,
        image=image,
        mask=mask,
        hounsfield=picture.hounsfield,
        small=thumbnail(picture.unit),
        pixels=digest.hexdigest(),
        of_series=picture.of_series,
        lung_cm2=picture.lung_cm2,
    )


def _content_key(manifest: Manifest, row: ManifestRow) -> str:
    """Name a single image by its file's digest; slices of a volume add their number."""
    digest = hashlib.sha256(manifest.file(row.path).read_bytes()).hexdigest()[:16]
    return digest + row.path[row.path.rfind("#") :] if "#" in row.path else digest
