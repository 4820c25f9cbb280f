"""Frames to one regular stack of planes: order, spacing, orientation and what must be refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dicom_node.errors import RefusedError
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dicom_node.reading.frames import FrameHeader

Float = np.float64

# No scanner reaches as far, and none measures finer; beyond, arithmetic itself overflows.
_LARGEST_MM = 1e5
_SMALLEST_SPACING_MM = 1e-3
# Senders round direction cosines.
_ORIENTATION_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class GeometryTolerances:
    """How far a real series may be from an ideal one.

    Attributes
    ----------
    oblique_degrees
        Largest angle between the slice normal and the patient's long axis that still counts as
        axial.
    orientation_degrees
        Largest angle between the row or column directions of two frames; senders round cosines.
    tilt_degrees
        Largest angle between the slice normal and the line through the slice positions.
    spacing_fraction
        Largest deviation of one step between slices, as a fraction of the median step.
    duplicate_fraction
        Steps below this fraction of the median step mean the same position.
    in_plane_fraction
        Largest relative difference between the pixel spacings of two frames.
    """

    oblique_degrees: float = 10.0
    orientation_degrees: float = 0.5
    tilt_degrees: float = 0.5
    spacing_fraction: float = 0.1
    duplicate_fraction: float = 0.1
    in_plane_fraction: float = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class FrameStack:
    """The regular stack that a series' frames make.

    Attributes
    ----------
    order
        Index of the frame of each slice, ascending along the slice normal.
    duplicates
        Pairs (slice, index of a frame at the same position that was left out). Whether their
        pixels agree is for the reader to see.
    spacing_mm
        Distances between (slices, rows, columns), in mm.
    affine
        Matrix (4, 4) from (slice, row, column, 1) to patient coordinates, as in `CtVolume`.
    """

    order: tuple[int, ...]
    duplicates: tuple[tuple[int, int], ...]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    @property
    def coverage_mm(self) -> float:
        """Extent of the slices along their normal, in mm."""
        return len(self.order) * self.spacing_mm[0]


@dataclass(frozen=True, slots=True, eq=False)
class PlaneSet:
    """Frames that share one orientation and pixel spacing.

    Attributes
    ----------
    row, column, normal
        Unit vectors: direction of a row, of a column, and their cross product.
    positions
        Array (frames, 3), in mm.
    pixel_spacing
        Distance between rows, between columns, in mm.
    """

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    positions: NDArray[np.float64]
    pixel_spacing: tuple[float, float]


def axial_planes(
    frames: Sequence[FrameHeader], tolerances: GeometryTolerances | None = None
) -> PlaneSet:
    """Check that frames lie in parallel axial planes of one grid (PS3.3 section C.7.6.2).

    Raises
    ------
    RefusedError
        MISSING_GEOMETRY (absent, or of no real scanner), NOT_AXIAL (no frame is axial) or
        MIXED_ORIENTATIONS (orientation or pixel spacing differ between frames).
    """
    tolerances = tolerances or GeometryTolerances()
    positions, orientations, spacings = _arrays(frames)
    rows, columns = orientations[:, :3], orientations[:, 3:]
    normals = np.cross(rows, columns)
    axial = np.abs(normals[:, 2]) >= np.cos(np.radians(tolerances.oblique_degrees))
    if not axial.any():
        angle = np.degrees(np.arccos(np.clip(np.abs(normals[0, 2]), 0, 1)))
        raise RefusedError(
            Reason.NOT_AXIAL, f"slices are turned {angle:.0f} degrees away from axial"
        )
    apart = max(_largest_angle(rows), _largest_angle(columns))
    if apart > tolerances.orientation_degrees:
        raise RefusedError(
            Reason.MIXED_ORIENTATIONS, f"orientations of frames differ by {apart:.1f} degrees"
        )
    if np.ptp(spacings, axis=0).max() > tolerances.in_plane_fraction * spacings.min():
        raise RefusedError(Reason.MIXED_ORIENTATIONS, "pixel spacing differs between frames")
    return PlaneSet(
        row=rows[0],
        column=columns[0],
        normal=normals[0] / np.linalg.norm(normals[0]),
        positions=positions,
        pixel_spacing=(float(spacings[0, 0]), float(spacings[0, 1])),
    )


def stack_frames(
    frames: Sequence[FrameHeader], tolerances: GeometryTolerances | None = None
) -> FrameStack:
    """Sort frames along their normal and check that they form a regular stack.

    Parameters
    ----------
    frames
        In an order of the caller that does not depend on arrival: of frames at one position the
        first in this order is kept.
    tolerances
        How far the series may be from an ideal one.

    Raises
    ------
    RefusedError
        As `axial_planes`; TOO_FEW_SLICES (fewer than two positions), GANTRY_TILT,
        MISSING_SLICES or IRREGULAR_SPACING.
    """
    tolerances = tolerances or GeometryTolerances()
    planes = axial_planes(frames, tolerances)
    heights = planes.positions @ planes.normal
    order, duplicates = _order(heights, tolerances)
    positions = planes.positions[list(order)]
    _check_line(positions, planes, tolerances)
    _check_steps(np.diff(heights[list(order)]), tolerances)
    step = (positions[-1] - positions[0]) / (len(order) - 1)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = planes.column * planes.pixel_spacing[0]
    affine[:3, 2] = planes.row * planes.pixel_spacing[1]
    affine[:3, 3] = positions[0]
    spacing = (float(np.linalg.norm(step)), *planes.pixel_spacing)
    return FrameStack(order, duplicates, spacing, affine)


def _arrays(
    frames: Sequence[FrameHeader],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give positions, orientations (unit vectors) and pixel spacings as arrays."""
    for name in ("position", "orientation", "pixel_spacing"):
        absent = sum(getattr(frame, name) is None for frame in frames)
        if absent or not frames:
            words = name.replace("_", " ")
            raise RefusedError(
                Reason.MISSING_GEOMETRY, f"{absent} of {len(frames)} frames have no {words}"
            )
    positions = np.array([frame.position for frame in frames], Float)
    orientations = np.array([frame.orientation for frame in frames], Float).reshape(-1, 2, 3)
    spacings = np.array([frame.pixel_spacing for frame in frames], Float)
    _check_range("position", np.abs(positions), 0.0)
    _check_range("pixel spacing", spacings, _SMALLEST_SPACING_MM)
    # Many senders write zero where they do not know it.
    _check_range("slice thickness", np.array([f.slice_thickness or 0.0 for f in frames]), 0.0)
    return positions, _unit_vectors(orientations), spacings


def _check_range(name: str, values: NDArray[np.float64], lowest: float) -> None:
    """Refuse lengths in mm that no scanner writes; not-a-number is among them."""
    if not ((values >= lowest) & (values <= _LARGEST_MM)).all():
        raise RefusedError(
            Reason.MISSING_GEOMETRY,
            f"{name} beyond {lowest:g} to {_LARGEST_MM:g} mm: no scanner's",
        )


def _unit_vectors(orientations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give row and column directions, shape (frames, 6), of exactly length one."""
    # Squares of huge numbers overflow, to an infinity that is far from one.
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(orientations, axis=2, keepdims=True)
        skew = np.sum(orientations[:, 0] * orientations[:, 1], axis=1)
    straight = (np.abs(skew) <= _ORIENTATION_SLACK).all()
    if not (straight and (np.abs(lengths - 1) <= _ORIENTATION_SLACK).all()):
        raise RefusedError(
            Reason.MISSING_GEOMETRY, "orientation is not a pair of perpendicular unit vectors"
        )
    directions: NDArray[np.float64] = (orientations / lengths).reshape(-1, 6)
    return directions


def _largest_angle(directions: NDArray[np.float64]) -> float:
    """Largest angle to the first direction, in degrees; exact where arccos is not, near zero."""
    chords = np.linalg.norm(directions - directions[0], axis=1)
    return float(np.degrees(2 * np.arcsin(np.clip(chords / 2, 0, 1))).max())


def _order(
    heights: NDArray[np.float64], tolerances: GeometryTolerances
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Sort frames by height; of frames at one height keep the first, name the others."""
    ascending = np.argsort(heights, kind="stable")
    steps = np.diff(heights[ascending])
    real = steps[steps > 1e-3]
    if real.size == 0:
        raise RefusedError(Reason.TOO_FEW_SLICES, "all frames lie at one position")
    new = np.flatnonzero(steps > tolerances.duplicate_fraction * np.median(real)) + 1
    groups = [sorted(map(int, group)) for group in np.split(ascending, new)]
    duplicates = [(k, other) for k, group in enumerate(groups) for other in group[1:]]
    return tuple(group[0] for group in groups), tuple(duplicates)


def _check_line(
    positions: NDArray[np.float64], planes: PlaneSet, tolerances: GeometryTolerances
) -> None:
    """Refuse slices whose positions do not follow their normal (gantry tilt, moved table)."""
    line = positions - positions[0]
    along = line @ planes.normal
    across = line - along[:, None] * planes.normal
    tilt = np.degrees(np.arctan2(np.linalg.norm(across[-1]), along[-1]))
    if tilt > tolerances.tilt_degrees:
        raise RefusedError(
            Reason.GANTRY_TILT, f"slices are sheared by {tilt:.1f} degrees against their normal"
        )
    drift = across - along[:, None] / along[-1] * across[-1]
    furthest = np.linalg.norm(drift, axis=1).max()
    if furthest > max(planes.pixel_spacing):
        raise RefusedError(
            Reason.IRREGULAR_SPACING, f"a slice lies {furthest:.1f} mm beside the others"
        )


def _check_steps(steps: NDArray[np.float64], tolerances: GeometryTolerances) -> None:
    """Refuse gaps and uneven steps between slices, in mm."""
    median = float(np.median(steps))
    worst = int(np.argmax(np.abs(steps - median)))
    ratio = float(steps[worst]) / median
    if abs(ratio - 1) <= tolerances.spacing_fraction:
        return
    missing = round(ratio) - 1
    if missing >= 1 and abs(ratio - round(ratio)) <= tolerances.spacing_fraction:
        raise RefusedError(
            Reason.MISSING_SLICES,
            f"gap of {steps[worst]:.2f} mm where slices are {median:.2f} mm apart: "
            f"{missing} missing after slice {worst + 1}",
        )
    raise RefusedError(
        Reason.IRREGULAR_SPACING,
        f"step of {steps[worst]:.2f} mm after slice {worst + 1}, median {median:.2f} mm",
    )
