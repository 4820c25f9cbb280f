"""The CT volume every room of the house shares: Hounsfield units and their place in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import VolumeError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class CtVolume:
    """A regular axial CT volume.

    Attributes
    ----------
    hounsfield
        Array of shape (slices, rows, columns) and type int16, in Hounsfield units. Slices ascend
        along the slice normal (row direction x column direction, DICOM PS3.3 section C.7.6.2.1.1),
        so from foot to head for an axial series of a supine patient.
    spacing_mm
        Distance between the centres of neighbouring voxels along (slices, rows, columns), in mm.
    affine
        Matrix of shape (4, 4) that maps the index (slice, row, column, 1) to the patient
        coordinate system (x to the left, y to posterior, z to the head; LPS), in mm.

    Raises
    ------
    VolumeError
        If shapes, types or values do not fit each other.
    """

    hounsfield: NDArray[np.int16]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.hounsfield.ndim != 3 or self.hounsfield.dtype != np.int16:
            raise VolumeError(
                "hounsfield must be an int16 array of (slices, rows, columns), not "
                f"{self.hounsfield.dtype} of shape {self.hounsfield.shape}"
            )
        if self.affine.shape != (4, 4):
            raise VolumeError(f"affine must be 4 x 4, not {self.affine.shape}")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise VolumeError(f"spacing must be positive, not {self.spacing_mm}")
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        if not np.allclose(edges, self.spacing_mm, rtol=1e-3):
            raise VolumeError(f"affine has edges {edges}, spacing says {self.spacing_mm}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        slices, rows, columns = self.hounsfield.shape
        return slices, rows, columns

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0
