"""DICOM slices, series and segmentations for training, since `model` itself knows no DICOM."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pydicom

from dicom_node.errors import RefusedError, SegmentationError, is_from_system
from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.reading.reader import read_ct_series, read_headers
from model.errors import DatasetError
from model.volume import CtVolume

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from dicom_node.reading.ct_series import CtSeries


def read_training_slice(
    path: Path, segmentation: Path | None = None
) -> tuple[CtVolume, NDArray[np.bool_] | None]:
    """Read one CT image as a volume of one slice, or the CT series in a folder.

    Parameters
    ----------
    path
        A single-frame CT image, or a folder with one CT series, read as when screening. Position
        and orientation of a single image do not matter for training, so images without them can
        be read; the rows are taken to run to the left.
    segmentation
        DICOM SEG with the lesions; every lesion segment counts, lungs and organs do not. One that
        goes with a single image was drawn on the series in that image's folder.

    Returns
    -------
    tuple
        The volume, and the lesions as a boolean array of its shape or None.

    Raises
    ------
    DatasetError
        If it is no CT image with pixel spacing and rescale values, the series cannot be screened,
        or the segmentation does not fit.
    """
    try:
        if path.is_dir():
            series = _series(path, _changed(path))
            lesions = None if segmentation is None else _lesions(series, segmentation)
            return series.volume, lesions
        volume, dataset = _image(path)
        if segmentation is None:
            return volume, None
        return volume, _lesions_of_slice(path, dataset, segmentation)
    except RefusedError as error:
        raise DatasetError(f"{path}: no CT series to train on: {error}") from error
    except SegmentationError as error:
        raise DatasetError(f"{segmentation}: {error}") from error


def _image(path: Path) -> tuple[CtVolume, pydicom.Dataset]:
    try:
        dataset = pydicom.dcmread(path)
        row_mm, column_mm = (float(step) for step in dataset.PixelSpacing)
        values = _hounsfield(dataset)
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0, 0, column_mm], [0, row_mm, 0], [1, 0, 0]])
        return CtVolume(values[None], (1.0, row_mm, column_mm), affine), dataset
    except Exception as error:
        # Damaged files make pydicom and the decoders raise nearly anything.
        if is_from_system(error):
            raise DatasetError(f"{path}: cannot be read: {error}") from error
        raise DatasetError(f"{path}: no CT image to train on: {error}") from error


def _hounsfield(dataset: pydicom.Dataset) -> NDArray[np.int16]:
    slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    values = dataset.pixel_array * slope + intercept
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError("it holds several frames or no numbers; a series is named by its folder")
    limits = np.iinfo(np.int16)
    return np.clip(np.rint(values), limits.min, limits.max).astype(np.int16)


def _changed(path: Path) -> int:
    """When a file or a folder was changed last, so that a cache holds nothing stale."""
    return path.stat().st_mtime_ns


@lru_cache(maxsize=1)
def _series(folder: Path, _changed: int, series_instance_uid: str | None = None) -> CtSeries:
    """Read a series; the slices of one follow each other in a manifest, so the last one is held."""
    content = read_headers([folder])
    files = [path for path, header in content.instances if header.modality == "CT"]
    return read_ct_series(files, series_instance_uid)


def _lesions(series: CtSeries, segmentation: Path) -> NDArray[np.bool_]:
    return _mask(series, segmentation, _changed(segmentation))


@lru_cache(maxsize=1)
def _mask(series: CtSeries, segmentation: Path, _changed: int) -> NDArray[np.bool_]:
    return read_corrected_segmentation(segmentation, series).mask


def _lesions_of_slice(
    path: Path, dataset: pydicom.Dataset, segmentation: Path
) -> NDArray[np.bool_]:
    series = _series(path.parent, _changed(path.parent), str(dataset.SeriesInstanceUID))
    uids = [reference.sop_instance_uid for reference in series.slices]
    uid = str(dataset.SOPInstanceUID)
    if uid not in uids:
        raise DatasetError(f"{path}: is none of the slices of its series that can be screened")
    index = uids.index(uid)
    return _lesions(series, segmentation)[index : index + 1]
