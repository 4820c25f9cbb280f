"""Studies made from real series, spoilt or odd in one way each, and what has to become of them.

`ct_corpus_refused` and `ct_corpus_handled` hold the cases; this module makes and judges them. The
pixels are cut to 64 x 64, so that all cases together take seconds.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from dicom_node.errors import RefusedError
from dicom_node.reading.reader import read_ct_series, read_headers
from dicom_node.reading.series import select_series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dicom_node.reading.ct_series import CtSeries
    from dicom_node.reasons import Reason

LUNG_DX = "lung_dx-A0001-s3"
LIDC = "lidc-idri-0001"
P001 = "covidctmd-P001"

# Enough for the 120 mm of a chest; lung_dx is 5 mm apart.
_SLICES = {LUNG_DX: 26, LIDC: 50, P001: 62}
_CROP = slice(224, 288)


@dataclass(frozen=True)
class Case:
    """One study.

    Attributes
    ----------
    name
        What is odd about it.
    make
        Makes its data sets from those of a series, which it may change. A folder is for files
        that no data set can be saved to.
    reason
        Why it must be refused; None where it must be read.
    series
        The real series it is made from.
    same_volume
        Whether the volume has to be that of the series itself.
    """

    name: str
    make: Callable[[list[Dataset], Path], Sequence[Dataset]]
    reason: Reason | None
    series: str = LUNG_DX
    same_volume: bool = True

    def write(self, data_dir: Path, folder: Path) -> list[Path]:
        """Write its files into an empty folder."""
        slices = copy.deepcopy(real_slices(data_dir, self.series))
        for number, dataset in enumerate(self.make(slices, folder)):
            dataset.save_as(folder / f"{number:03d}.dcm")
        return sorted(path for path in folder.rglob("*") if path.is_file())


@lru_cache(maxsize=4)
def real_slices(data_dir: Path, series: str) -> list[Dataset]:
    """Give the middle slices of a real series, from below, cut in rows and columns."""
    paths = sorted((data_dir / "series" / series).glob("*.dcm"))
    found = sorted((dcmread(path) for path in paths), key=height)
    first = (len(found) - _SLICES[series]) // 2
    return [cropped(dataset) for dataset in found[first : first + _SLICES[series]]]


def height(dataset: Dataset) -> float:
    """Position along the body, in mm."""
    return float(dataset.ImagePositionPatient[2])


def cropped(dataset: Dataset) -> Dataset:
    """Cut an image to its centre; one that is compressed stays whole."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return dataset
    cells = cells_of(dataset)[_CROP, _CROP]
    dataset.Rows, dataset.Columns = cells.shape
    dataset.PixelData = cells.tobytes()
    return dataset


def cells_of(dataset: Dataset) -> np.ndarray:
    """Give the stored 16-bit cells of a native image."""
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def expected_volume(data_dir: Path, series: str) -> np.ndarray:
    """Give the Hounsfield units as pydicom, and not we, make them of the real slices."""
    planes = []
    for dataset in real_slices(data_dir, series):
        stored = dataset.pixel_array.astype(int)
        padding = dataset.get("PixelPaddingValue")
        plane = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        if padding is not None:
            plane[stored.astype(np.uint16) == np.uint16(padding % 65536)] = -1024
        planes.append(plane)
    return np.array(planes)


@dataclass(frozen=True)
class Verdict:
    """What became of a study: a volume or a reason."""

    series: CtSeries | None
    reason: Reason | None
    detail: str = ""


def judge(files: Sequence[Path]) -> Verdict:
    """Take the way of ``lungwatch screen``, but for the network."""
    content = read_headers(files)
    headers = [header for _, header in content.instances]
    if not headers:
        return Verdict(None, content.refused[0].reason, content.refused[0].detail)
    selection = select_series(headers)
    if selection.chosen is None:
        return Verdict(None, selection.reason, selection.detail)
    paths = [p for p, header in content.instances if header.series_instance_uid == selection.chosen]
    try:
        return Verdict(read_ct_series(paths, selection.chosen), None, selection.detail)
    except RefusedError as error:
        return Verdict(None, error.reason, error.detail)


def problem_of(case: Case, verdict: Verdict, data_dir: Path) -> str:
    """Say what is wrong with a verdict; empty where it is right."""
    if verdict.reason is not case.reason:
        return f"{case.name}: {verdict.reason or 'read'} ({verdict.detail}), not {case.reason}"
    if verdict.series is None:
        return "" if verdict.detail else f"{case.name}: refused without a word"
    if not case.same_volume:
        return ""
    volume, expected = verdict.series.volume.hounsfield, expected_volume(data_dir, case.series)
    return "" if np.array_equal(volume, expected) else f"{case.name}: read as another volume"


def renamed(dataset: Dataset) -> Dataset:
    """Copy an instance under a UID of its own."""
    other = copy.deepcopy(dataset)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return other
