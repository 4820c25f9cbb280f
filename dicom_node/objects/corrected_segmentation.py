"""Lesions out of a DICOM Segmentation that came back from a viewer, on the grid of its series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import SegmentationStorage

from dicom_node.errors import RefusedError, SegmentationError, is_from_system
from dicom_node.objects.lesion_segments import Segments, lesion_segments
from dicom_node.objects.segment_frames import FramePlacer
from dicom_node.reading import attributes
from dicom_node.reading.header import read_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dicom_node.reading.ct_series import CtSeries

# Label Map Segmentation Storage (PS3.4 section B.5), which not every version of pydicom names.
_LABEL_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedSegmentation:
    """What a person drew into a series.

    Attributes
    ----------
    sop_instance_uid
        The segmentation.
    mask
        Boolean array of the shape of the series' volume: all lesions together, as in the paper.
    left_out
        Segments that are no lesions, by label and coded type.
    """

    sop_instance_uid: str
    mask: NDArray[np.bool_]
    left_out: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is marked: the reviewer cleared the series."""
        return not bool(self.mask.any())


def read_corrected_segmentation(path: Path, series: CtSeries) -> CorrectedSegmentation:
    """Read the lesions of a segmentation made on a series, by whatever software.

    Frames are placed by the instance they refer to (Derivation Image and Source Image Sequence,
    PS3.3 section C.7.6.16), or by their plane position where they refer to none; where both are
    there, both have to agree. BINARY and LABELMAP segmentations are taken as they are, a
    FRACTIONAL one marks the voxels of at least half its maximum.

    Parameters
    ----------
    path
        A DICOM file.
    series
        The series that was screened.

    Returns
    -------
    CorrectedSegmentation
        Empty where every frame of the lesions is: that clears the series.

    Raises
    ------
    SegmentationError
        If it is no segmentation, was drawn on something else, has other rows or columns, holds no
        lesion's segment, or cannot be decoded. The message starts with the file's name.
    OSError
        If the file cannot be read at all.
    """
    try:
        segmentation = _read(path)
        _check_subject(segmentation, series)
        segments = lesion_segments(segmentation)
        mask = _merge(segmentation, segments, series)
    except SegmentationError as error:
        raise SegmentationError(f"{path.name}: {error}") from error
    return CorrectedSegmentation(
        attributes.uid(segmentation, "SOPInstanceUID"), mask, segments.left_out
    )


def _read(path: Path) -> Dataset:
    try:
        read_dataset(path)
    except RefusedError as error:
        raise SegmentationError(error.detail) from error
    try:
        dataset = dcmread(path)
    except Exception as error:
        if is_from_system(error):
            raise
        raise SegmentationError("cannot be parsed as DICOM") from error
    sop_class = attributes.uid(dataset, "SOPClassUID")
    if sop_class not in (SegmentationStorage, _LABEL_MAP_STORAGE):
        modality = attributes.text(dataset, "Modality") or "unknown"
        raise SegmentationError(f"it is no DICOM Segmentation (its modality is {modality})")
    return dataset


def _check_subject(segmentation: Dataset, series: CtSeries) -> None:
    """Refuse what was drawn on another study, series, frame of reference or matrix."""
    study = attributes.uid(segmentation, "StudyInstanceUID")
    if study != series.study_instance_uid:
        raise SegmentationError(
            f"it belongs to study {study or 'without UID'}, not to {series.study_instance_uid}"
        )
    referenced = {
        attributes.uid(item, "SeriesInstanceUID")
        for item in attributes.value(segmentation, "ReferencedSeriesSequence") or ()
    }
    if referenced and series.series_instance_uid not in referenced:
        raise SegmentationError(
            f"it was drawn on series {', '.join(sorted(referenced))}; the series that was screened "
            f"is {series.series_instance_uid}"
        )
    frame = attributes.uid(segmentation, "FrameOfReferenceUID")
    own = attributes.uid(series.sources[0], "FrameOfReferenceUID")
    if frame and own and frame != own:
        raise SegmentationError(f"its frame of reference is {frame}, that of the series is {own}")
    matrix = tuple(attributes.integer(segmentation, name) for name in ("Rows", "Columns"))
    if matrix != series.volume.shape[1:]:
        rows, columns = series.volume.shape[1:]
        raise SegmentationError(
            f"its frames have {matrix[0]} rows and {matrix[1]} columns, the slices {rows} and "
            f"{columns}: draw on the series itself, not on a resampled one"
        )


def _merge(segmentation: Dataset, segments: Segments, series: CtSeries) -> NDArray[np.bool_]:
    """Put the frames of all lesions into one mask."""
    mask = np.zeros(series.volume.shape, np.bool_)
    groups = attributes.value(segmentation, "PerFrameFunctionalGroupsSequence") or ()
    label_map = attributes.text(segmentation, "SegmentationType") == "LABELMAP"
    count = len(groups)
    most = mask.shape[0] * (1 if label_map else len(segments.lesions) + len(segments.left_out))
    if not 0 < count <= most:
        raise SegmentationError(
            f"it describes {count} frames; its segments on {mask.shape[0]} slices need 1 to {most}"
        )
    placer = FramePlacer(segmentation, series)
    for number, (group, marked) in enumerate(
        zip(groups, _frames(segmentation, segments, count), strict=True), start=1
    ):
        if label_map or _segment_number(group, segmentation, number) in segments.lesions:
            index, turned = placer.place(group, number)
            mask[index] |= turned(marked)
    return mask


def _frames(segmentation: Dataset, segments: Segments, count: int) -> Iterator[NDArray[np.bool_]]:
    """Decode frame by frame: where a voxel is marked as (any) lesion."""
    marked = _marking(segmentation, segments)
    decoded = 0
    try:
        for frame in iter_pixels(segmentation):
            decoded += 1
            if decoded > count:
                break
            yield marked(frame)
    except Exception as error:
        if is_from_system(error):
            raise
        raise SegmentationError(f"its pixels cannot be decoded ({type(error).__name__})") from error
    if decoded != count:
        more = "more" if decoded > count else f"only {decoded}"
        raise SegmentationError(f"it describes {count} frames and holds {more}")


def _marking(
    segmentation: Dataset, segments: Segments
) -> Callable[[NDArray[np.generic]], NDArray[np.bool_]]:
    """Tell what makes a voxel of a frame marked, by Segmentation Type (PS3.3 section C.8.20.2)."""
    kind = attributes.text(segmentation, "SegmentationType")
    if kind == "BINARY":
        return lambda frame: frame != 0
    if kind == "LABELMAP":
        return lambda frame: np.isin(frame, list(segments.lesions))
    if kind == "FRACTIONAL":
        maximum = attributes.integer(segmentation, "MaximumFractionalValue")
        if not maximum:
            raise SegmentationError("it is FRACTIONAL and has no Maximum Fractional Value")
        return lambda frame: 2 * frame.astype(np.int64) >= maximum
    raise SegmentationError(f"its segmentation type is {kind or 'absent'}")


def _segment_number(group: Dataset, segmentation: Dataset, number: int) -> int:
    for holder in (
        group,
        *(attributes.value(segmentation, "SharedFunctionalGroupsSequence") or ()),
    ):
        items = attributes.value(holder, "SegmentIdentificationSequence")
        found = attributes.integer(items[0], "ReferencedSegmentNumber") if items else None
        if found is not None:
            return found
    raise SegmentationError(f"frame {number} names no segment")
