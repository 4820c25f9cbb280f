"""What a network says of a CT volume, free of DICOM, database and TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Laterality(StrEnum):
    """Side of the patient a lesion lies on."""

    LEFT = "left"
    RIGHT = "right"
    BILATERAL = "bilateral"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """Identity of a trained network.

    Attributes
    ----------
    name
        Name of the network's lineage, for instance ``lungwatch-multitask``.
    version
        Version within the lineage, for instance ``0.1.0``.
    sha256
        Hexadecimal SHA-256 of the weights file; the identity results are derived from.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One lesion: a connected component, or the last segment with all smaller ones together.

    Attributes
    ----------
    segment_number
        Label in the lesion mask and segment number in the SEG; 1 is the largest lesion.
    voxel_count, volume_ml
        Size in voxels of the source series and in millilitres.
    slice_indices
        Indices of the slices the lesion touches, ascending.
    largest_slice_index
        The slice with the largest area of the lesion.
    laterality
        Side, from the lesion's voxels in each lung.
    mean_hu
        Mean Hounsfield value of the lesion's voxels.
    maximum_diameter_mm
        Largest in-plane diameter on any axial slice, in mm.
    component_count
        Number of connected components; above 1 only in the segment that gathers the rest.
    """

    segment_number: int
    voxel_count: int
    volume_ml: float
    slice_indices: tuple[int, ...]
    largest_slice_index: int
    laterality: Laterality
    mean_hu: float
    maximum_diameter_mm: float
    component_count: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class LesionMask:
    """Lesions of a volume as labels.

    Attributes
    ----------
    labels
        Array of shape (slices, rows, columns) and type uint8, on the grid of the source series;
        0 is background, n the finding with segment number n.
    """

    labels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """The network's statement on one CT volume, unverified and for review.

    Attributes
    ----------
    model
        The version that spoke.
    covid_probability
        Calibrated probability of the study, pooled from its screened slices, 0 to 1.
    operating_point
        Threshold on `covid_probability`; at or above it the study counts as positive.
    screened_slices
        Indices of the slices with lung, ascending; only these were shown to the network.
    slice_probabilities
        Probability for each screened slice, in the same order.
    lesion_mask, findings
        Lesions as labels and as measurements, largest first; both empty if there are none.
    lung_volume_ml
        Volume of the lung fields of the whole series, in millilitres.
    """

    model: ModelVersion
    covid_probability: float
    operating_point: float
    screened_slices: tuple[int, ...]
    slice_probabilities: tuple[float, ...]
    lesion_mask: LesionMask
    findings: tuple[Finding, ...]
    lung_volume_ml: float

    @property
    def positive(self) -> bool:
        """Whether the study reaches the operating point."""
        return self.covid_probability >= self.operating_point

    @property
    def total_lesion_volume_ml(self) -> float:
        """Volume of all lesions together, in millilitres."""
        return sum(finding.volume_ml for finding in self.findings)

    @property
    def lung_involvement_percent(self) -> float:
        """Share of the lung volume that the lesions take, in percent; 0 without lung."""
        if self.lung_volume_ml <= 0:
            return 0.0
        return min(100.0, 100.0 * self.total_lesion_volume_ml / self.lung_volume_ml)
