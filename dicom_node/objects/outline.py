"""Outlines of a lesion on one slice, for the report's polylines and the summary image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Viewers redraw an outline on every mouse move, and a polyline's values must fit the 65,534 bytes
# of an FL element (PS3.5 section 7.1.2).
_MAXIMUM_POINTS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One connected region of a lesion on a slice.

    Attributes
    ----------
    outline
        Array of shape (points, 2): column and row along the outer edge of the region's pixels,
        closed (last point equal to the first), with (0, 0) at the outer corner of the first
        pixel, as SCOORD has it (PS3.3 section C.18.6.1.1).
    pixel_count
        Size of the region.
    """

    outline: NDArray[np.float64]
    pixel_count: int


def regions(mask: NDArray[np.bool_]) -> list[Region]:
    """Find the connected regions (8 neighbours) of a mask, largest first.

    Parameters
    ----------
    mask
        Array of shape (rows, columns).
    """
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    found = []
    for label in range(1, count):
        left, top, width, height, pixel_count = (int(value) for value in statistics[label])
        crop = labels[top : top + height, left : left + width] == label
        found.append(Region(_edge(crop) + np.array([left, top]), pixel_count))
    return sorted(found, key=lambda region: -region.pixel_count)


def _edge(region: NDArray[np.bool_]) -> NDArray[np.float64]:
    rows, columns = region.shape
    # cv2 traces pixel centres. On a grid of half pixels each pixel is a block of 3 x 3 whose
    # border lies on the pixel's own edges.
    canvas = np.zeros((2 * rows + 1, 2 * columns + 1), np.uint8)
    canvas[1::2, 1::2] = region
    canvas = cv2.dilate(canvas, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contour = max(contours, key=len)
    tolerance = 1.0
    while len(contour) > _MAXIMUM_POINTS:
        contour = cv2.approxPolyDP(contour, tolerance, closed=True)
        tolerance *= 2
    points = contour[:, 0, :].astype(np.float64) / 2
    return np.vstack([points, points[:1]])
