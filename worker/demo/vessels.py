"""Branching pulmonary vessels for the synthetic chest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.demo.anatomy import Image, Mask, Plane

_HILA_MM = ((-38.0, 8.0, 120.0), (40.0, 10.0, 125.0))
_TRUNKS, _GENERATIONS, _HILAR_RADIUS_MM = 16, 6, 3.4
_STEP_MM = 1.0
_VESSEL_HU = 35.0


def grow_vessels(rng: np.random.Generator) -> NDArray[np.float32]:
    """Let a tree of vessels grow from each hilum.

    Parameters
    ----------
    rng
        Source of the directions.

    Returns
    -------
    Array of shape (points, 4)
        Centre line points x, y, z and the radius there, in mm.
    """
    points: list[NDArray[np.float64]] = []
    for hilum in _HILA_MM:
        outward = np.sign(hilum[0])
        for _ in range(_TRUNKS):
            direction = rng.normal(size=3) * (0.7, 1.0, 1.5) + (outward, 0.0, 0.0)
            _branch(rng, np.array(hilum), _unit(direction), _HILAR_RADIUS_MM, _GENERATIONS, points)
    return np.concatenate(points).astype(np.float32)


def paint_vessels(image: Image, plane: Plane, points: NDArray[np.float32], within: Mask) -> None:
    """Paint the vessels that cross a slice, where it shows lung.

    Parameters
    ----------
    image
        The slice in Hounsfield units; changed in place.
    plane
        Its coordinates.
    points
        From `grow_vessels`.
    within
        The lungs.
    """
    thickness = np.float32(2.5)
    near = points[np.abs(points[:, 2] - plane.z) < points[:, 3] + thickness]
    pixel = float(plane.x[0, 1] - plane.x[0, 0])
    reach = int(np.ceil(4.5 / pixel))
    offsets = np.arange(-reach, reach + 1)
    column = np.rint((near[:, 0] - plane.x[0, 0]) / pixel).astype(int)
    row = np.rint((near[:, 1] - plane.y[0, 0]) / pixel).astype(int)
    inside = (np.minimum(row, column) >= reach) & (
        np.maximum(row, column) < min(image.shape) - reach
    )
    near, row, column = near[inside], row[inside], column[inside]
    rows = row[:, None, None] + offsets[None, :, None]
    columns = column[:, None, None] + offsets[None, None, :]
    distance = np.hypot(
        plane.x[0, columns] - near[:, 0, None, None], plane.y[rows, 0] - near[:, 1, None, None]
    )
    share = np.clip((near[:, 3, None, None] - distance) / pixel + 0.5, 0, 1)
    # A vessel thinner than the slice shares its voxels with the lung around it.
    share *= np.clip(near[:, 3, None, None] / thickness, 0.25, 1)
    coverage = np.zeros_like(image)
    np.maximum.at(coverage, (rows, columns), share)
    coverage[~within] = 0
    image += coverage * (_VESSEL_HU - image)


def _branch(
    rng: np.random.Generator,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    radius: float,
    generations: int,
    points: list[NDArray[np.float64]],
) -> None:
    length = rng.uniform(16, 34) * (0.6 + 0.4 * radius / _HILAR_RADIUS_MM)
    along = np.arange(0, length, _STEP_MM)[:, None]
    bend = rng.normal(scale=0.004, size=3)
    line = start + along * direction + along**2 * bend
    points.append(np.column_stack([line, np.full(len(line), radius)]))
    if generations > 1:
        for _ in range(2):
            turned = _unit(direction + rng.normal(scale=0.38, size=3))
            _branch(rng, line[-1], turned, radius * 0.74, generations - 1, points)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)
