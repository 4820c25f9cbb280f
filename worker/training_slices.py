"""Single DICOM slices for training, which `model` cannot read itself: it knows no DICOM."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pydicom

from model.errors import DatasetError
from model.volume import CtVolume

if TYPE_CHECKING:
    from pathlib import Path


def read_training_slice(path: Path) -> CtVolume:
    """Read one CT image as a volume of one slice.

    Parameters
    ----------
    path
        A single-frame CT image. Position and orientation do not matter for training, so images
        without them can be read; the rows are taken to run to the left.

    Raises
    ------
    DatasetError
        If it is no CT image with pixel spacing and rescale values.
    """
    try:
        dataset = pydicom.dcmread(path)
        row_mm, column_mm = (float(step) for step in dataset.PixelSpacing)
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
        hounsfield = dataset.pixel_array * slope + intercept
    except (AttributeError, ValueError, pydicom.errors.InvalidDicomError) as error:
        raise DatasetError(f"{path}: no CT image to train on: {error}") from error
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, column_mm], [0, row_mm, 0], [1, 0, 0]])
    limits = np.iinfo(np.int16)
    values = np.clip(np.rint(hounsfield), limits.min, limits.max).astype(np.int16)
    return CtVolume(values[None], (1.0, row_mm, column_mm), affine)
