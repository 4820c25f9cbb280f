"""Lung fields of a CT volume from its Hounsfield units, by thresholds and connected regions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage

from model.errors import NoLungError
from model.preprocessing import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.volume import CtVolume

AIR_BELOW_HU = -320
BODY_ABOVE_HU = -500
GAS_BELOW_HU = -965
AIRWAY_BELOW_HU = -940
WORKING_SPACING_MM = 2.8
CLOSING_RADIUS_MM = 20.0
LARGEST_AIRWAY_MM2 = 800.0
SMALLEST_SLICE_AREA_MM2 = 1000.0
SMALLEST_REGION_SHARE = 0.08
SMALLEST_LUNG_VOLUME_ML = 300.0


class Side(IntEnum):
    """Value of a voxel in a lung field; right and left are the patient's."""

    NONE = 0
    RIGHT = 1
    LEFT = 2


@dataclass(frozen=True, slots=True, eq=False)
class LungField:
    """The lungs of a volume.

    Attributes
    ----------
    sides
        Array of shape (slices, rows, columns) and type uint8, values of `Side`, on the grid of
        the source series.
    screened_slices
        Indices of the slices with lung, ascending.
    volume_ml
        Volume of both lungs in millilitres, consolidated parts included as far as found.
    """

    sides: NDArray[np.uint8]
    screened_slices: tuple[int, ...]
    volume_ml: float

    @property
    def box(self) -> Box:
        """Box of (rows, columns) around the lungs of all slices together."""
        return _box_around((self.sides != Side.NONE).any(axis=0))

    def boxes(self) -> tuple[Box, ...]:
        """Return a box for each screened slice, around the slice's own lungs.

        None is smaller than half the box of the whole volume: at apex and base little lung is
        left, and a closer crop would show it magnified as no training image is.
        """
        rows, columns = (size // 2 for size in self.box.shape)
        shape = (self.sides.shape[1], self.sides.shape[2])
        own = (_box_around(self.sides[index] != Side.NONE) for index in self.screened_slices)
        return tuple(box.grown_to(rows, columns, shape) for box in own)


def find_lungs(volume: CtVolume) -> LungField:
    """Find the lungs on a coarse grid and return them on the grid of the volume.

    Parameters
    ----------
    volume
        An axial chest CT, or a single slice of one.

    Raises
    ------
    NoLungError
        If no region of air inside the body is large enough to be lung.

    Notes
    -----
    Air inside the body is split into connected regions; a region is lung if it is not small
    beside the largest and holds parenchyma rather than gas, which is darker (trachea, stomach,
    bowel). Closing in the slice takes in vessels, nodules and consolidation at the hilum and the
    pleura up to about `CLOSING_RADIUS_MM`; a wholly consolidated lobe is not recovered.
    """
    coarse, spacing = _coarse(volume)
    air = np.stack([_air_inside_body(image) for image in coarse])
    lungs = _lung_regions(coarse, air)
    for image, mask in zip(coarse, lungs, strict=True):
        _remove_airways(image, mask, spacing)
    lungs &= _areas(lungs, spacing)[:, None, None] >= SMALLEST_SLICE_AREA_MM2
    sides = _sides(lungs, _leftward(volume, lungs.shape))
    sides = np.stack([_close(plane, spacing) for plane in sides])
    full = _to_grid(sides, volume.shape)
    present = np.flatnonzero((full != Side.NONE).any(axis=(1, 2)))
    volume_ml = int(np.count_nonzero(full)) * volume.voxel_volume_ml
    whole_chest = volume.shape[0] > 1
    if not present.size or (whole_chest and volume_ml < SMALLEST_LUNG_VOLUME_ML):
        raise NoLungError(f"no lung found in {volume.shape[0]} slices ({volume_ml:.0f} mL of air)")
    return LungField(full, tuple(int(index) for index in present), volume_ml)


def _box_around(lung: NDArray[np.bool_]) -> Box:
    box = Box.around(lung)
    if box is None:
        raise NoLungError("no lung field: there is nothing to put a box around")
    return box


def _coarse(volume: CtVolume) -> tuple[NDArray[np.int16], tuple[float, float]]:
    """Average the slices down to about `WORKING_SPACING_MM`; padding becomes outside air."""
    _, rows, columns = volume.shape
    height = max(16, min(rows, round(rows * volume.spacing_mm[1] / WORKING_SPACING_MM)))
    width = max(16, min(columns, round(columns * volume.spacing_mm[2] / WORKING_SPACING_MM)))
    images = np.empty((volume.shape[0], height, width), np.int16)
    for image, source in zip(images, volume.hounsfield, strict=True):
        clipped = np.clip(source, -1024, 1024)
        image[...] = cv2.resize(clipped, (width, height), interpolation=cv2.INTER_AREA)
    spacing = (volume.spacing_mm[1] * rows / height, volume.spacing_mm[2] * columns / width)
    return images, spacing


def _air_inside_body(image: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return what is dark inside the largest solid object of a slice, the body without table."""
    solid = cv2.morphologyEx(
        (image > BODY_ABOVE_HU).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)
    )
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    body = np.zeros(image.shape, np.uint8)
    if contours:
        largest = max(contours, key=cv2.contourArea)
        cv2.drawContours(body, [largest], -1, 1, cv2.FILLED)
    return (image < AIR_BELOW_HU) & (body > 0)


def _lung_regions(images: NDArray[np.int16], air: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the connected regions of air that are large and hold parenchyma."""
    labels, count = ndimage.label(air)
    if not count:
        return air
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = np.flatnonzero(sizes >= max(1, SMALLEST_REGION_SHARE * sizes.max()))
    lung = [label for label in large if np.median(images[labels == label]) > GAS_BELOW_HU]
    keep = np.zeros(count + 1, np.bool_)
    if lung:
        floor = SMALLEST_REGION_SHARE * max(sizes[label] for label in lung)
        keep[[label for label in lung if sizes[label] >= floor]] = True
    lungs: NDArray[np.bool_] = keep[labels]
    return lungs


def _remove_airways(
    image: NDArray[np.int16], mask: NDArray[np.bool_], spacing: tuple[float, float]
) -> None:
    """Clear the trachea and main bronchi, which are small, and dark as only gas is, in a slice."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    areas = stats[:, cv2.CC_STAT_AREA] * (spacing[0] * spacing[1])
    for label in range(1, count):
        if areas[label] <= LARGEST_AIRWAY_MM2:
            region = labels == label
            if np.median(image[region]) < AIRWAY_BELOW_HU:
                mask[region] = False


def _areas(masks: NDArray[np.bool_], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Area of each slice's mask in square millimetres."""
    areas: NDArray[np.float64] = masks.sum(axis=(1, 2)) * (spacing[0] * spacing[1])
    return areas


def _close(sides: NDArray[np.uint8], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Close each lung of a slice for itself and fill its holes.

    Closing both together would take in the mediastinum where the lungs come close.
    """
    if not sides.any():
        return sides
    radii = [max(1, round(CLOSING_RADIUS_MM / step)) for step in spacing]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radii[1] + 1, 2 * radii[0] + 1))
    pad = max(radii)
    padded = np.pad(sides, pad)
    closed = np.zeros_like(padded)
    for side in (Side.RIGHT, Side.LEFT):
        lung = cv2.morphologyEx((padded == side).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
        contours, _ = cv2.findContours(lung, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        filled = cv2.drawContours(np.zeros_like(padded), contours, -1, 1, cv2.FILLED)
        # Where both closings reach, the voxel stays with the lung it was found in.
        free = (closed == Side.NONE) & ((padded == Side.NONE) | (padded == side))
        closed[(filled > 0) & free] = side
    return closed[pad:-pad, pad:-pad]


def _leftward(volume: CtVolume, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Patient x (to the left, LPS) of each coarse pixel of (rows, columns), up to a constant."""
    rows = np.arange(shape[1]) * (volume.shape[1] / shape[1])
    columns = np.arange(shape[2]) * (volume.shape[2] / shape[2])
    x: NDArray[np.float64] = (
        volume.affine[0, 1] * rows[:, None] + volume.affine[0, 2] * columns[None, :]
    )
    return x


def _sides(lungs: NDArray[np.bool_], leftward: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Tell right from left: by the side of each region's centre, or split at the midline.

    The midline is half-way between the outermost lung on both sides. A region that reaches far
    across it holds both lungs, joined where only a thin pleura parts them.
    """
    sides = np.zeros(lungs.shape, np.uint8)
    extent = leftward[lungs.any(axis=0)]
    if not extent.size:
        return sides
    half_width = (extent.max() - extent.min()) / 2
    offset = leftward - (extent.max() + extent.min()) / 2
    by_pixel = np.where(offset > 0, Side.LEFT, Side.RIGHT).astype(np.uint8)
    for mask, side in zip(lungs, sides, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
        for label in range(1, count):
            region = labels == label
            reach = offset[region]
            if reach.min() < -half_width / 2 and reach.max() > half_width / 2:
                side[region] = by_pixel[region]
            else:
                side[region] = Side.LEFT if reach.mean() > 0 else Side.RIGHT
    return sides


def _to_grid(sides: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Bring the coarse labels to the source grid, with smooth outlines."""
    full = np.zeros(shape, np.uint8)
    size = (shape[2], shape[1])
    for source, target in zip(sides, full, strict=True):
        if source.any():
            for side in (Side.RIGHT, Side.LEFT):
                plane = (source == side).astype(np.uint8) * np.uint8(255)
                target[cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) > 127] = side
    return full
