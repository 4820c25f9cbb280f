"""Lesions of one image laid into the lungs of another, so that a source is seen in both classes.

Every image of some sources is without COVID-19. A network can then tell the class by the source's
looks, and does; once such images carry lesions half of the time, only the lesions tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.preprocessing import enclosed_air

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.data.dataset import Sample

ATTEMPTS = 6
# Of the lung: a smaller lesion nobody could see; a larger one is a white lung.
SMALLEST_SHARE, LARGEST_SHARE = 0.008, 0.6
# Of the grey scale: what changes an image by less is no lesion that anybody could be asked to find.
LEAST_CHANGE = 0.05
LARGEST_TURN_DEGREES = 25.0
LARGEST_SHIFT = 0.2
LARGEST_SCALE = 0.35


def paste_lesions(
    image: NDArray[np.float32], donors: list[Sample], generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
    """Lay the lesions of one or two donors into the lungs of an image without any.

    Parameters
    ----------
    image
        Array of (size, size), 0 to 1, with the body around the lungs.
    donors
        Samples with lesions, of the same size.
    generator
        Source of randomness; the same state gives the same image.

    Returns
    -------
    tuple or None
        The changed image and the mask of the pasted lesions; None if the image shows no lung, or
        no donor's lesions fell into it.

    Notes
    -----
    A lesion is pasted as density, not as grey: how far a donor's pixel lies between its own lung
    and its own soft tissue says how far the image's pixel moves towards the image's soft tissue.
    Vessels stay visible, windows stay as they are, and the edges are soft, so that a pasted lesion
    cannot be told by its outline.
    """
    lung = _lung(image)
    if lung.sum() < 0.02 * lung.size:
        return None
    air, tissue = _levels(image, lung)
    density, mask = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.bool_)
    wanted = 1 + int(generator.random() < 0.4)
    found = 0
    for _ in range(ATTEMPTS):
        donor = donors[int(generator.integers(len(donors)))]
        pasted, lesion = _moved(donor, generator)
        lesion &= lung
        if not SMALLEST_SHARE <= lesion.sum() / lung.sum() <= LARGEST_SHARE:
            continue
        soft = cv2.GaussianBlur(lesion.astype(np.float32), (0, 0), 1.2)
        density = np.maximum(density, pasted * soft)
        mask |= lesion
        found += 1
        if found == wanted:
            break
    if not found:
        return None
    density *= np.float32(generator.uniform(0.75, 1.25))
    changed = image + np.clip(density, 0, 1) * np.maximum(tissue - image, 0)
    visible = _visible(mask, density * np.float32(tissue - air))
    if visible.sum() < SMALLEST_SHARE * lung.sum():
        return None
    return np.clip(changed, 0, 1).astype(np.float32), visible


def _visible(mask: NDArray[np.bool_], change: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Keep what changes the image enough, as patches instead of single pixels."""
    smooth = cv2.GaussianBlur(change, (0, 0), 1.5)
    patches = (mask & (smooth > LEAST_CHANGE)).astype(np.uint8)
    return cv2.morphologyEx(patches, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0


def _lung(image: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the lungs with their vessels."""
    air = enclosed_air(image).astype(np.uint8)
    size = max(3, image.shape[0] // 24) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return cv2.morphologyEx(air, cv2.MORPH_CLOSE, kernel) > 0


def _levels(image: NDArray[np.float32], lung: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the greys of aerated lung and of soft tissue."""
    outside = image[~lung]
    tissue = float(np.percentile(outside, 75)) if outside.size else 1.0
    return float(np.percentile(image[lung], 30)), tissue


def _moved(
    donor: Sample, generator: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return density (0 lung, 1 soft tissue) and lesions of a donor, mirrored, turned and moved."""
    if donor.mask is None:
        raise ValueError(f"{donor.path} has no lesions to give")
    size = donor.image.shape[0]
    angle = generator.uniform(-1, 1) * LARGEST_TURN_DEGREES
    scale = float(np.exp(generator.uniform(-1, 1) * LARGEST_SCALE))
    centre = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), angle, scale)
    matrix[:, 2] += generator.uniform(-1, 1, 2) * LARGEST_SHIFT * size
    if generator.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]])
    # The lung of a figure that is cut at the pleura reaches its border: take all that is dark.
    air, tissue = np.percentile(donor.image[~donor.mask], (20, 95))
    density = np.clip((donor.image - air) / max(float(tissue - air), 0.2), 0, 1)
    moved = cv2.warpAffine(density.astype(np.float32), matrix, (size, size))
    lesion = cv2.warpAffine(donor.mask.astype(np.float32), matrix, (size, size)) >= 0.5
    return moved.astype(np.float32, copy=False), lesion
