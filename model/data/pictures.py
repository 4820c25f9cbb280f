"""From a file of any kind to grey slices of 0..1 with the box the network sees, and their masks.

Every kind ends on the one path of `model.preprocessing`: Hounsfield units are windowed, figures
come as their authors windowed them; then box, resize and stretch are the same for all.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from model.data.manifest import split_slice
from model.data.nifti import NiftiVolume, read_nifti
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
from model.volume import CtVolume

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from model.data.manifest import Manifest, ManifestRow

# Reads a DICOM slice, or the series in a folder, and the lesions a DICOM SEG draws on it, as an
# array of the volume's shape; without a second path there are none.
SliceReader = Callable[[Path, Path | None], tuple[CtVolume, "NDArray[np.bool_] | None"]]

FIGURE_SUFFIXES = (".png", ".jpg", ".jpeg")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
_CERTAINLY_HOUNSFIELD = -200.0
# libpng, which decodes, tells of a file without an end on stderr before anybody else can.
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One upright grey slice.

    Attributes
    ----------
    name
        The row's path; a slice of a series adds its number.
    unit
        Greys of (rows, columns), 0 to 1.
    box
        What of it the network sees.
    lesions
        Mask of the same shape, or None where nobody drew.
    hounsfield
        Whether it came in Hounsfield units.
    of_series
        Whether it is one of several slices of its row.
    lung_cm2
        Area of lung on a single DICOM slice; None where it is not known.
    """

    name: str
    unit: NDArray[np.float32]
    box: Box
    lesions: NDArray[np.bool_] | None
    hounsfield: bool
    of_series: bool = False
    lung_cm2: float | None = None

    def inputs(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """Return image and mask as the network takes them, (size, size)."""
        geometry = Geometry((self.unit.shape[0], self.unit.shape[1]), self.box, size)
        mask = None if self.lesions is None else geometry.mask_to_input(self.lesions)
        return slice_to_input(self.unit, geometry), mask


def read_pictures(
    manifest: Manifest, row: ManifestRow, read_slice: SliceReader | None
) -> Iterator[Picture]:
    """Read the slices of one row that show lung: one, or those of a DICOM series.

    Parameters
    ----------
    manifest, row
        The row and where it is from.
    read_slice
        Reads DICOM; without it DICOM files are left out, since this package knows no DICOM.

    Raises
    ------
    DatasetError
        If a file cannot be read, or the mask has another size; the message names row and file.
    """
    path, kind = manifest.file(row.path), _suffix(row.path)
    for name in filter(None, (row.path, row.mask)):
        if not manifest.file(name).exists():
            raise manifest.error(
                row, f"{name}: there is no such file; put it there or take the row out"
            )
    try:
        if kind in NIFTI_SUFFIXES:
            yield _nifti_picture(manifest, row)
        elif kind in FIGURE_SUFFIXES:
            yield _figure_picture(manifest, row)
        elif read_slice is not None:
            yield from _dicom_pictures(manifest, row, path, read_slice)
    except DatasetError as error:
        raise manifest.error(row, str(error)) from error


def read_figure(path: Path) -> NDArray[np.uint8]:
    """Read a grey or coloured 8-bit image as greys.

    Raises
    ------
    DatasetError
        If it is no image, cut off, or has more than 8 bits.
    """
    pixels = _decode(path, cv2.IMREAD_ANYDEPTH)
    if pixels.dtype != np.uint8:
        raise DatasetError(
            f"{path}: has {8 * pixels.itemsize} bits a pixel; save figures with 8, Hounsfield "
            "units as DICOM or NIfTI"
        )
    return pixels.astype(np.uint8, copy=False)


def read_figure_mask(path: Path) -> NDArray[np.bool_]:
    """Read a drawn mask: every label above 0 counts; of a JPEG, which blurs, the upper half."""
    stored = _decode(path, cv2.IMREAD_UNCHANGED)
    labels: NDArray[np.generic] = stored[..., :3].max(axis=2) if stored.ndim == 3 else stored
    least = 0.0 if path.suffix.lower() == ".png" else max(1.0, float(stored.max())) / 2
    drawn: NDArray[np.bool_] = np.greater(labels, least)
    return drawn


def _suffix(name: str) -> str:
    file = Path(split_slice(name)[0]).name.lower()
    return ".nii.gz" if file.endswith(".nii.gz") else Path(file).suffix


def _decode(path: Path, flags: int) -> NDArray[np.uint8 | np.uint16]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:2] == b"\xff\xd8":
        try:  # OpenCV fills what is missing of a JPEG with grey and says nothing
            Image.open(io.BytesIO(data)).load()
        except (OSError, SyntaxError) as error:
            raise DatasetError(f"{path}: is no readable image: {error}") from error
    if data[:8] == _PNG and _PNG_END not in data:
        raise DatasetError(f"{path}: is no readable image: it is cut off; copy it again")
    data = _without_profile(data)
    # What OpenCV says on stderr of a damaged file is said below, with the name of the file.
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    finally:
        cv2.utils.logging.setLogLevel(before)
    if pixels is None:
        raise DatasetError(f"{path}: is no readable image; replace it or take its row out")
    decoded: NDArray[np.uint8 | np.uint16] = pixels
    return decoded


def _without_profile(data: bytes) -> bytes:
    """Leave the colour profile of a PNG out: it changes no grey, and libpng grumbles at it."""
    start = data.find(b"iCCP", 8, 4096) - 4
    if data[:8] != _PNG or start < 8 or data.find(b"IDAT", 8, start) > 0:
        return data
    end = start + 12 + int.from_bytes(data[start : start + 4])
    return data[:start] + data[end:]


def _figure_picture(manifest: Manifest, row: ManifestRow) -> Picture:
    pixels = read_figure(manifest.file(row.path))
    lesions = None
    if row.mask:
        lesions = _mask_beside(manifest, row, pixels.shape)
    if row.transposed:
        pixels = np.ascontiguousarray(pixels.T)
        lesions = None if lesions is None else np.ascontiguousarray(lesions.T)
    _require_contrast(row, pixels)
    unit = figure_to_unit(pixels)
    return Picture(row.path, unit, _box(row, unit), lesions, hounsfield=False)


def _require_contrast(row: ManifestRow, values: NDArray[np.generic]) -> None:
    """Refuse an image of one grey value: an export that failed looks like that."""
    if not np.ptp(values):
        raise DatasetError(
            f"{row.path}: shows nothing, every pixel is {values.flat[0]:g}; replace it or take its "
            "row out"
        )


def _mask_beside(manifest: Manifest, row: ManifestRow, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read the mask of a single image, as it is stored."""
    kind, path = _suffix(row.mask), manifest.file(row.mask)
    if kind in NIFTI_SUFFIXES:
        mask = _nifti_slice(path, row.mask, transposed=False) > 0
    elif kind in FIGURE_SUFFIXES:
        mask = read_figure_mask(path)
    else:
        raise DatasetError(f"{row.mask}: a mask of a figure is PNG, JPEG or a slice of a NIfTI")
    if mask.shape != shape:
        raise DatasetError(
            f"{row.mask}: is {_size(mask.shape)}, but its image {row.path} is {_size(shape)}; "
            "a mask must lie on the pixels of its image"
        )
    return mask


def _nifti_picture(manifest: Manifest, row: ManifestRow) -> Picture:
    values = _nifti_slice(manifest.file(row.path), row.path, transposed=row.transposed)
    lesions = None
    if row.mask:
        kind = _suffix(row.mask)
        if kind in NIFTI_SUFFIXES:
            labels = _nifti_slice(manifest.file(row.mask), row.mask, transposed=row.transposed)
            lesions = labels > 0
        else:
            lesions = read_figure_mask(manifest.file(row.mask))
            lesions = np.ascontiguousarray(lesions.T) if row.transposed else lesions
        if lesions.shape != values.shape:
            raise DatasetError(
                f"{row.mask}: is {_size(lesions.shape)}, but its image {row.path} is "
                f"{_size(values.shape)}; a mask must lie on the pixels of its image"
            )
    _require_contrast(row, values)
    hounsfield = float(values.min()) < _CERTAINLY_HOUNSFIELD
    if hounsfield:
        unit = apply_window(np.clip(np.rint(values), -32768, 32767).astype(np.int16))
    elif values.min() >= 0 and 1 < values.max() <= 255:
        unit = figure_to_unit(np.rint(values).astype(np.uint8))
    else:
        raise DatasetError(
            f"{row.path}: values from {values.min():g} to {values.max():g} are neither Hounsfield "
            "units nor greys of 0 to 255; store it as one of the two"
        )
    return Picture(row.path, unit, _box(row, unit), lesions, hounsfield=hounsfield)


def _box(row: ManifestRow, unit: NDArray[np.float32]) -> Box:
    """Return what the network sees; never by the lesions, which would tell it where to look."""
    return Box.whole((unit.shape[0], unit.shape[1])) if row.cut_at_lungs else lung_box(unit)


@lru_cache(maxsize=2)
def _nifti(path: Path, _changed: int) -> NiftiVolume:
    """Hold image and mask of the rows that follow each other: they are slices of one file."""
    return read_nifti(path)


def _nifti_slice(path: Path, name: str, *, transposed: bool) -> NDArray[np.float32]:
    volume = _nifti(path, path.stat().st_mtime_ns)
    index = split_slice(name)[1]
    if index is None:
        if volume.values.shape[2] != 1:
            raise DatasetError(f"{name}: a NIfTI volume; name its slices, as in {name}#0")
        index = 0
    try:
        # `transposed` is a statement of the manifest about the file: it outranks the header.
        return NiftiVolume(volume.values, None if transposed else volume.directions).upright(index)
    except DatasetError as error:
        raise DatasetError(f"{name}: {error}") from error


def _dicom_pictures(
    manifest: Manifest, row: ManifestRow, path: Path, read_slice: SliceReader
) -> Iterator[Picture]:
    drawn_as_figure = _suffix(row.mask) in FIGURE_SUFFIXES
    mask = manifest.file(row.mask) if row.mask and not drawn_as_figure else None
    volume, lesions = read_slice(path, mask)
    if drawn_as_figure:
        lesions = _mask_beside(manifest, row, volume.shape[1:])[None]
    if lesions is not None and lesions.shape != volume.shape:
        raise DatasetError(
            f"{row.mask}: is {_size(lesions.shape)}, but its images {row.path} are "
            f"{_size(volume.shape)}; a mask must lie on the pixels of its image"
        )
    try:
        lungs = find_lungs(volume)
    except NoLungError:
        return
    several = volume.shape[0] > 1
    boxes = lungs.boxes() if several else (lungs.box,)
    for index, box in zip(lungs.screened_slices, boxes, strict=True):
        yield Picture(
            f"{row.path}#{index}" if several else row.path,
            apply_window(volume.hounsfield[index]),
            box,
            None if lesions is None else lesions[index],
            hounsfield=True,
            of_series=several,
            lung_cm2=None if several else 10 * lungs.volume_ml / volume.spacing_mm[0],
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(edge) for edge in shape)
