"""From Hounsfield units or an 8-bit figure to the network's input, and masks back again.

Training and inference share this one path: window, crop to the lungs, stretch, resize.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)

WINDOW_LEVEL_HU = -600.0
WINDOW_WIDTH_HU = 1500.0
BOX_MARGIN = 0.05
STRETCH_PERCENTILES = (1.0, 99.0)


def apply_window(
    hounsfield: NDArray[np.int16], level: float = WINDOW_LEVEL_HU, width: float = WINDOW_WIDTH_HU
) -> NDArray[np.float32]:
    """Map Hounsfield units to 0..1 by a linear window, clipped at its edges.

    Parameters
    ----------
    hounsfield
        Array of any shape, in Hounsfield units.
    level, width
        Centre and width of the window, in Hounsfield units.
    """
    lowest = level - width / 2
    scaled = (hounsfield.astype(np.float32) - np.float32(lowest)) * np.float32(1 / width)
    return np.clip(scaled, 0, 1, out=scaled)


def figure_to_unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map an 8-bit figure, whose window is its author's, to 0..1."""
    return pixels.astype(np.float32) * np.float32(1 / 255)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on the source grid, in rows and columns; `bottom` and `right` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns inside."""
        return self.bottom - self.top, self.right - self.left

    @classmethod
    def around(cls, mask: NDArray[np.bool_], margin: float = BOX_MARGIN) -> Box | None:
        """Return the box around a mask of (rows, columns), or None around an empty one.

        Parameters
        ----------
        mask
            What the box must hold.
        margin
            Share of the box's height and width added on each side, as far as the grid goes.
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not rows.size:
            return None
        pad_rows = round(margin * (rows[-1] + 1 - rows[0]))
        pad_columns = round(margin * (columns[-1] + 1 - columns[0]))
        return cls(
            top=max(0, int(rows[0]) - pad_rows),
            left=max(0, int(columns[0]) - pad_columns),
            bottom=min(mask.shape[0], int(rows[-1]) + 1 + pad_rows),
            right=min(mask.shape[1], int(columns[-1]) + 1 + pad_columns),
        )

    def grown_to(self, rows: int, columns: int, shape: tuple[int, int]) -> Box:
        """Return a box about the same centre of at least this size, moved to stay on the grid.

        Parameters
        ----------
        rows, columns
            Least size; what is larger than the grid is cut to it.
        shape
            Rows and columns of the grid.
        """
        height = min(shape[0], max(rows, self.bottom - self.top))
        width = min(shape[1], max(columns, self.right - self.left))
        top = (self.top + self.bottom - height) // 2
        left = (self.left + self.right - width) // 2
        top, left = min(max(0, top), shape[0] - height), min(max(0, left), shape[1] - width)
        return Box(top, left, top + height, left + width)

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Box:
        """Return the box that holds a whole grid of (rows, columns)."""
        return cls(0, 0, *shape)


@dataclass(frozen=True, slots=True)
class IntensityRange:
    """The grey values that become 0 and 1, so that figures of any window look alike."""

    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> IntensityRange:
        """Take the range between `STRETCH_PERCENTILES` of values in 0..1."""
        low, high = np.percentile(values, STRETCH_PERCENTILES)
        return cls(float(low), float(high)) if high - low > 0.05 else cls(0.0, 1.0)

    def stretch(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the range to 0..1, clipped at its edges."""
        stretched = (values - np.float32(self.low)) * np.float32(1 / (self.high - self.low))
        return np.clip(stretched, 0, 1, out=stretched)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a slice becomes a square input, and a map of the input's size comes back.

    Attributes
    ----------
    source_shape
        Rows and columns of the source grid.
    box
        The part of it the network sees.
    input_size
        Rows and columns of the network's input.
    """

    source_shape: tuple[int, int]
    box: Box
    input_size: int

    def crop(self, image: NDArray[Pixel]) -> NDArray[Pixel]:
        """Return the view of the image inside the box."""
        return image[self.box.top : self.box.bottom, self.box.left : self.box.right]

    def to_input(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Crop and resize an image of (rows, columns), averaging over area where it shrinks."""
        size = (self.input_size, self.input_size)
        cropped = np.ascontiguousarray(self.crop(image))
        resized = cv2.resize(cropped, size, interpolation=cv2.INTER_AREA)
        return resized.astype(np.float32, copy=False)

    def mask_to_input(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Crop and resize a mask; a pixel of the input is set if half of its area is."""
        return self.to_input(mask.astype(np.float32)) >= 0.5

    def to_source(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map values of (input_size, input_size) back to the source grid; 0 outside of the box."""
        source = np.zeros(self.source_shape, np.float32)
        rows, columns = self.box.shape
        self.crop(source)[...] = cv2.resize(
            np.asarray(values, np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR
        )
        return source


def slice_to_input(unit: NDArray[np.float32], geometry: Geometry) -> NDArray[np.float32]:
    """Turn one grey slice of (rows, columns), 0..1, into the network's input.

    The range that is stretched is that of the slice's own box, after it was resized.
    """
    values = geometry.to_input(unit)
    return IntensityRange.of(values).stretch(values)


def enclosed_air(unit: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find the dark regions inside the body on a single grey slice: lungs, airways, bowel gas.

    Parameters
    ----------
    unit
        Slice of (rows, columns), 0..1, of any window: the threshold is Otsu's.

    Returns
    -------
    NDArray[np.bool_]
        Mask of the slice's shape. Regions that touch the border are outside air and left out, so
        a figure that is cropped into the lungs may come back empty.
    """
    grey = cv2.GaussianBlur((unit * 255).astype(np.uint8), (5, 5), 0)
    _, dark = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
    rows, columns = unit.shape
    keep = np.zeros(count, np.bool_)
    for label in range(1, count):
        left, top, width, height, area = stats[label]
        within = left > 0 and top > 0 and left + width < columns and top + height < rows
        keep[label] = within and area > 0.005 * rows * columns
    inside_body: NDArray[np.bool_] = keep[labels]
    return inside_body


def lung_box(unit: NDArray[np.float32], minimum_share: float = 0.2) -> Box:
    """Return the box around the lungs of a single grey slice, or the whole slice where unclear.

    Parameters
    ----------
    unit
        Slice of (rows, columns), 0..1.
    minimum_share
        A box smaller than this share of the slice is not trusted: the figure is probably cropped
        into a lung already.
    """
    box = Box.around(enclosed_air(unit))
    whole = Box.whole((unit.shape[0], unit.shape[1]))
    if box is None or np.prod(box.shape) < minimum_share * np.prod(whole.shape):
        return whole
    return box
