"""Who belongs together, and which part of the data they are in: by patient and hash, not slice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from model.data.manifest import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NEAR_DUPLICATE_CORRELATION = 0.93
VALIDATION_SHARE = 0.2
_THUMBNAIL = (24, 24)


def hash_share(key: str) -> float:
    """Map a key to a number in [0, 1) that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def hashed_split(key: str) -> Split:
    """Hold out `VALIDATION_SHARE` of the patients, chosen by the hash of their name."""
    return Split.VALIDATION if hash_share(key) < VALIDATION_SHARE else Split.TRAIN


def thumbnail(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the small view of a grey image of (rows, columns) that near duplicates share."""
    small = cv2.resize(unit, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32, copy=False)


def correlations(thumbnails: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the correlation of each thumbnail with each; that of a blank one is 0."""
    rows = np.stack([each.ravel() for each in thumbnails]).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(lengths > 1e-6, lengths, np.inf)
    product: NDArray[np.float64] = rows @ rows.T
    return product


def near_duplicate_groups(
    images: Iterable[NDArray[np.float32]], threshold: float = NEAR_DUPLICATE_CORRELATION
) -> list[int]:
    """Give images numbers so that near duplicates, also through others, have the same number.

    Parameters
    ----------
    images
        Grey images in 0..1, or thumbnails of them; two whose 24 x 24 thumbnails correlate above
        the threshold count as views of the same patient.
    threshold
        Correlation above which two images are near duplicates.
    """
    thumbnails = [thumbnail(image) for image in images]
    if len(thumbnails) < 2:
        return list(range(len(thumbnails)))
    first, second = np.nonzero(np.triu(correlations(thumbnails) > threshold, 1))
    size = len(thumbnails)
    graph = coo_array((np.ones(first.size, np.int8), (first, second)), shape=(size, size))
    _, labels = connected_components(graph, directed=False)
    return [int(label) for label in labels]
