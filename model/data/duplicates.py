"""Pictures that show the same slice again: the same pixels, or other size, window or crop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.data.splits import NEAR_DUPLICATE_CORRELATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from model.data.reading import ReadPicture

# Of two different patients' slices of the development data none reaches it; crops and windows of
# one slice do in part, so what is found is sure and what is not found is not proven absent.
DETAIL_CORRELATION = 0.85
_DETAIL = 48
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures, by index, that show the same slice.

    Attributes
    ----------
    first, second
        Indices, ascending.
    exact
        Whether their grey values are the same; else they are near duplicates.
    correlation
        The higher one of the two that are looked at.
    """

    first: int
    second: int
    exact: bool
    correlation: float


def find_pairs(pictures: Sequence[ReadPicture]) -> Iterator[Pair]:
    """Find pairs that show the same slice, of different patients as far as they are known.

    Parameters
    ----------
    pictures
        All pictures, of any source.

    Yields
    ------
    Pair
        The same pixels; or thumbnails of the whole slice that correlate above
        `NEAR_DUPLICATE_CORRELATION`; or, to see through window and crop, fine structure of the
        network's inputs that correlates above `DETAIL_CORRELATION`. Near duplicates of one known
        patient, or within one series, are no finding.
    """
    if len(pictures) < 2:
        return
    looks = np.stack([_unit_vector(each.small) for each in pictures])
    details = np.stack([_unit_vector(_detail(each.image)) for each in pictures])
    for start in range(0, len(pictures), _BLOCK):
        rows = slice(start, start + _BLOCK)
        alike = looks[rows] @ looks[start:].T
        fine = details[rows] @ details[start:].T
        hits = (alike > NEAR_DUPLICATE_CORRELATION) | (fine > DETAIL_CORRELATION)
        for first, second in np.argwhere(np.triu(hits, 1)):
            left, right = pictures[start + first], pictures[start + second]
            exact = left.pixels == right.pixels
            if exact or not _of_one_patient(left, right):
                strength = max(alike[first, second], fine[first, second])
                yield Pair(int(start + first), int(start + second), exact, float(strength))


def _of_one_patient(left: ReadPicture, right: ReadPicture) -> bool:
    if left.row.path == right.row.path:
        return True
    same_source = left.row.source == right.row.source
    return bool(left.row.patient) and same_source and left.row.patient == right.row.patient


def _detail(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep vessels and lesions of an input, drop its brightness."""
    small = cv2.resize(image, (_DETAIL, _DETAIL), interpolation=cv2.INTER_AREA)
    detail: NDArray[np.float32] = small - cv2.GaussianBlur(small, (0, 0), _DETAIL / 16)
    return detail


def _unit_vector(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture as a vector whose products with others are correlations; blank: 0."""
    vector = image.ravel() - image.mean()
    length = float(np.linalg.norm(vector))
    unit: NDArray[np.float32] = vector / np.float32(length if length > 1e-6 else np.inf)
    return unit
