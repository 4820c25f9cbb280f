"""A CT series as it was read: the volume, and which instance and frame each slice came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

    from model.volume import CtVolume


@dataclass(frozen=True, slots=True)
class SliceReference:
    """Where one slice of the volume lies in the source objects (PS3.3 section 10.3).

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        The instance.
    frame_number
        1-based frame for a multi-frame instance, None for a single-frame one.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame_number: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class CtSeries:
    """One qualifying CT series with its volume.

    Attributes
    ----------
    volume
        Hounsfield units, slices ascending along the slice normal.
    slices
        One reference for each slice of the volume, in its order.
    sources
        The source data sets without pixel data: for single-frame CT one for each slice, in the
        volume's order; for multi-frame CT one for each instance.
    digest
        Hexadecimal SHA-256 over instance UIDs, pixels and geometry: the series part of a
        result's identity.
    """

    volume: CtVolume
    slices: tuple[SliceReference, ...]
    sources: tuple[Dataset, ...]
    digest: str

    @property
    def study_instance_uid(self) -> str:
        """UID of the study the series belongs to."""
        return str(self.sources[0].StudyInstanceUID)

    @property
    def series_instance_uid(self) -> str:
        """UID of the series."""
        return str(self.sources[0].SeriesInstanceUID)
