"""Made-up crops of CT volumes with lesions, to show that the 3-D network trains.

The data the project is developed with have no lesions drawn in three dimensions, so the 3-D
U-Net++ cannot be measured on them. A crop is dark lung with noise and bright strands (vessels),
and soft ellipsoids brighter than lung and darker than the strands: the lesions.
"""

from __future__ import annotations

import cv2
import numpy as np

from model.baselines.unet_plus_plus import CROP_SLICES
from model.data.dataset import Sample, Split

SOURCE = "made-up crops"


def make_crop(size: int, number: int, seed: int) -> Sample:
    """Return a crop of (`CROP_SLICES`, size, size) with one to three lesions.

    Parameters
    ----------
    size
        Edge in the slice.
    number, seed
        Which crop; the same numbers give the same crop.
    """
    generator = np.random.default_rng((seed, number))
    grid = np.indices((CROP_SLICES, size, size)).astype(np.float32)
    image = 0.15 + 0.05 * generator.standard_normal(grid.shape[1:]).astype(np.float32)
    for _ in range(3):
        row, column = generator.uniform(0, size, 2)
        slope = generator.uniform(-1, 1, 2) * size / CROP_SLICES
        distance = np.hypot(
            grid[1] - row - slope[0] * grid[0], grid[2] - column - slope[1] * grid[0]
        )
        image += 0.7 * np.exp(-np.square(distance / 1.5))
    mask = np.zeros(image.shape, np.bool_)
    for _ in range(generator.integers(1, 4)):
        centre = generator.uniform(0.2, 0.8, 3) * np.array(image.shape)
        radii = generator.uniform(0.1, 0.25, 3) * np.array([CROP_SLICES * 1.5, size, size])
        inside = sum(
            np.square((axis - middle) / radius)
            for axis, middle, radius in zip(grid, centre, radii, strict=True)
        )
        lesion = np.asarray(inside) < 1
        image = np.where(lesion, image + generator.uniform(0.15, 0.3), image)
        mask |= lesion
    image = np.stack([cv2.GaussianBlur(plane, (0, 0), 0.7) for plane in image])
    return Sample(
        path=f"crop {number}",
        source=SOURCE,
        split=Split.TRAIN,
        patient=f"{SOURCE}:{number}",
        covid=None,
        image=np.clip(image, 0, 1).astype(np.float32),
        mask=mask,
    )
