"""From slice-wise lesion maps to lesions connected in three dimensions, and their measurements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial.distance import pdist

from model.lungs import Side
from model.prediction import Finding, Laterality, LesionMask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.preprocessing import Geometry
    from model.volume import CtVolume

BILATERAL_SHARE = 0.1
HIGHEST_SEGMENT_NUMBER = 255


@dataclass(frozen=True, slots=True)
class LesionRules:
    """Which regions become segments.

    Attributes
    ----------
    minimum_ml
        Smallest lesion in millilitres; what is smaller is taken for noise.
    maximum_segments
        Most segments, 1 to 255; the last one gathers what is left over.
    """

    minimum_ml: float
    maximum_segments: int


def lesion_slice(
    probability: NDArray[np.float32],
    geometry: Geometry,
    lung: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.bool_]:
    """Return the lesions of one slice on the source grid, inside the lung field.

    Parameters
    ----------
    probability
        The network's map of (input_size, input_size).
    geometry
        How the slice became the input.
    lung
        Lung field of the slice, (rows, columns).
    threshold
        A pixel at or above it is lesion.
    """
    return (geometry.to_source(probability) >= threshold) & lung


def label_lesions(
    lesions: NDArray[np.bool_], voxel_volume_ml: float, rules: LesionRules
) -> tuple[LesionMask, tuple[int, ...]]:
    """Give the connected lesions their numbers, the largest first.

    Parameters
    ----------
    lesions
        Array of (slices, rows, columns).
    voxel_volume_ml
        Volume of a voxel in millilitres.
    rules
        Smallest lesion and most segments.

    Returns
    -------
    LesionMask
        Segment numbers. Voxels touch by face, edge or corner (26-connectivity).
    tuple of int
        Connected components in each segment: 1, but for a last one that gathers the rest.
    """
    labels = np.zeros(lesions.shape, np.uint8)
    region = _bounding_box(lesions)
    if region is None:
        return LesionMask(labels), ()
    components, count = ndimage.label(lesions[region], structure=np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")
    kept = [number for number in order if sizes[number] * voxel_volume_ml >= rules.minimum_ml]
    kept = [number for number in kept if sizes[number] > 0]
    most = min(rules.maximum_segments, HIGHEST_SEGMENT_NUMBER)
    numbers = np.zeros(count + 1, np.uint8)
    numbers[kept] = np.minimum(np.arange(1, len(kept) + 1), most)
    np.take(numbers, components, out=labels[region])
    segments = np.bincount(numbers[kept], minlength=1)[1:] if kept else np.empty(0, int)
    return LesionMask(labels), tuple(int(count) for count in segments)


def measure_findings(
    mask: LesionMask,
    component_counts: tuple[int, ...],
    volume: CtVolume,
    sides: NDArray[np.uint8],
) -> tuple[Finding, ...]:
    """Measure each segment of a lesion mask.

    Parameters
    ----------
    mask
        Segment numbers on the grid of the volume.
    component_counts
        Connected components in each segment, in the order of their numbers.
    volume
        The source series.
    sides
        Values of `model.lungs.Side` on the same grid.

    Returns
    -------
    tuple of Finding
        One for each segment; the order is that of the numbers.
    """
    boxes = ndimage.find_objects(mask.labels, len(component_counts))
    return tuple(
        _measure(mask.labels, number, box, volume, sides, components)
        for number, (box, components) in enumerate(
            zip(boxes, component_counts, strict=True), start=1
        )
    )


def _measure(
    labels: NDArray[np.uint8],
    number: int,
    box: tuple[slice, ...],
    volume: CtVolume,
    sides: NDArray[np.uint8],
    components: int,
) -> Finding:
    inside = labels[box] == number
    areas = inside.sum(axis=(1, 2))
    first = box[0].start
    voxels = int(areas.sum())
    side_counts = np.bincount(sides[box][inside], minlength=3)
    spacing = np.array(volume.spacing_mm[1:])
    return Finding(
        segment_number=number,
        voxel_count=voxels,
        volume_ml=voxels * volume.voxel_volume_ml,
        slice_indices=tuple(int(index) + first for index in np.flatnonzero(areas)),
        largest_slice_index=int(np.argmax(areas)) + first,
        laterality=_laterality(int(side_counts[Side.RIGHT]), int(side_counts[Side.LEFT])),
        mean_hu=float(volume.hounsfield[box][inside].mean(dtype=np.float64)),
        maximum_diameter_mm=max(_diameter(plane, spacing) for plane in inside),
        component_count=components,
    )


def _laterality(right: int, left: int) -> Laterality:
    """Both sides count if the lesser holds a tenth; a stray voxel is no bilateral lesion."""
    total = right + left
    if total and min(right, left) >= BILATERAL_SHARE * total:
        return Laterality.BILATERAL
    return Laterality.RIGHT if right > left else Laterality.LEFT


def _diameter(plane: NDArray[np.bool_], spacing: NDArray[np.float64]) -> float:
    """Largest distance between the centres of two voxels of a slice, in mm; on the convex hull."""
    if not plane.any():
        return 0.0
    points = np.argwhere(plane).astype(np.int32)
    hull = cv2.convexHull(points).reshape(-1, 2) * spacing
    return float(pdist(hull).max(initial=0.0))


def _bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """Box around a mask, so that no label array of the whole volume is needed."""
    extents = [np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    if not extents[0].size:
        return None
    rows, columns, depth = (slice(int(e[0]), int(e[-1]) + 1) for e in extents)
    return rows, columns, depth
