"""Where the frames of a segmentation lie in a series: by what they refer to and by their plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dicom_node.errors import SegmentationError
from dicom_node.reading import attributes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from pydicom import Dataset

    from dicom_node.reading.ct_series import CtSeries

    Turn = Callable[[NDArray[np.bool_]], NDArray[np.bool_]]

# Fractions of a slice's distance and of a pixel: senders round positions.
_SLICE_SLACK = 0.25
_PIXEL_SLACK = 0.5


class FramePlacer:
    """Finds the slice of each frame, and how its rows and columns run there.

    Parameters
    ----------
    segmentation
        Whose frames are placed; rows and columns are those of the series.
    series
        The series they were drawn on.
    """

    def __init__(self, segmentation: Dataset, series: CtSeries) -> None:
        shared = attributes.value(segmentation, "SharedFunctionalGroupsSequence")
        self._shared = shared[0] if shared else None
        self._count, *matrix = series.volume.shape
        self._last = np.array(matrix) - 1
        self._to_index = np.linalg.inv(series.volume.affine)
        self._slices = {
            (reference.sop_instance_uid, reference.frame_number): index
            for index, reference in enumerate(series.slices)
        }

    def place(self, group: Dataset, number: int) -> tuple[int, Turn]:
        """Tell the slice of a frame, and what turns the frame's pixels into the slice's.

        Parameters
        ----------
        group
            Item of the Per-Frame Functional Groups Sequence.
        number
            1-based number of the frame, for messages.

        Raises
        ------
        SegmentationError
            If the frame refers to another series, lies beside the slices, or says neither.
        """
        referenced = self._referenced(group, number)
        plane = self._plane(group)
        if plane is None:
            if referenced is None:
                raise SegmentationError(f"frame {number} has neither a source image nor a position")
            return referenced, lambda frame: frame
        height, turn = self._locate(plane, number)
        index = round(height) if referenced is None else referenced
        slack = _SLICE_SLACK if referenced is None else 2 * _SLICE_SLACK
        if abs(height - index) > slack or not 0 <= index < self._count:
            where = "the slices" if referenced is None else f"slice {index + 1}, its source"
            beside = abs(height - np.clip(index, 0, self._count - 1))
            raise SegmentationError(f"frame {number} lies {beside:.1f} slices beside {where}")
        return index, turn

    def _referenced(self, group: Dataset, number: int) -> int | None:
        """Slice of the one image a frame was derived from; None where it names none or several."""
        derivations = self._item(group, "DerivationImageSequence")
        found: set[int] = set()
        for derivation in derivations:
            for source in attributes.value(derivation, "SourceImageSequence") or ():
                uid = attributes.uid(source, "ReferencedSOPInstanceUID")
                frame = attributes.integer(source, "ReferencedFrameNumber")
                index = self._slices.get((uid, frame), self._slices.get((uid, None)))
                if index is None:
                    raise SegmentationError(
                        f"frame {number} was drawn on instance {uid or 'without UID'}, which is "
                        "none of the series that was screened"
                    )
                found.add(index)
        return found.pop() if len(found) == 1 else None

    def _plane(self, group: Dataset) -> tuple[NDArray[np.float64], ...] | None:
        """Give position, row and column directions times their steps in mm; None if incomplete."""
        positions = self._item(group, "PlanePositionSequence")
        orientations = self._item(group, "PlaneOrientationSequence")
        measures = self._item(group, "PixelMeasuresSequence")
        if not (positions and orientations and measures):
            return None
        position = attributes.decimals(positions[0], "ImagePositionPatient", 3)
        orientation = attributes.decimals(orientations[0], "ImageOrientationPatient", 6)
        spacing = attributes.decimals(measures[0], "PixelSpacing", 2)
        if position is None or orientation is None or spacing is None:
            return None
        along_row, along_column = np.array(orientation).reshape(2, 3)
        return np.array(position), along_column * spacing[0], along_row * spacing[1]

    def _locate(self, plane: tuple[NDArray[np.float64], ...], number: int) -> tuple[float, Turn]:
        """Give a frame's height in slices, and how it is turned against them."""
        position, *steps = plane
        origin = self._to_index @ np.append(position, 1.0)
        # Column k: what one step to the frame's next row or column means in the slice's.
        turns = np.column_stack([self._to_index[:3, :3] @ step for step in steps])
        signs = np.where(np.diag(turns[1:]) < 0, -1, 1)
        ideal_origin = np.where(signs < 0, self._last, 0)
        drift = np.abs(turns - np.vstack([np.zeros(2), np.diag(signs)])) @ self._last
        if (np.abs(origin[1:3] - ideal_origin) > _PIXEL_SLACK).any() or (
            drift > (_SLICE_SLACK, _PIXEL_SLACK, _PIXEL_SLACK)
        ).any():
            raise SegmentationError(
                f"frame {number} is turned, shifted or scaled against the slices: draw on the "
                "series itself, not on a reformat of it"
            )
        vertical, horizontal = (int(sign) for sign in signs)
        return float(origin[0]), lambda frame: frame[::vertical, ::horizontal]

    def _item(self, group: Dataset, keyword: str) -> list[Dataset]:
        for holder in (group, self._shared):
            items = attributes.value(holder, keyword) if holder is not None else None
            if items:
                return list(items)
        return []
