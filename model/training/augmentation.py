"""Random changes of training images that imitate how figures and CT series differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.config import AugmentationConfig


def augment(
    image: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    config: AugmentationConfig,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Change an image at random, and its mask by the same geometry.

    Parameters
    ----------
    image
        Array of (rows, columns), 0 to 1.
    mask
        Lesions as an array of the same shape, or None.
    config
        Strength of each change.
    generator
        Source of randomness; the same state gives the same image.

    Returns
    -------
    tuple
        The changed image, again 0 to 1, and mask.
    """
    matrix = _random_affine(image.shape[0], config, generator)
    image = _warp(image, matrix, cv2.INTER_LINEAR)
    if mask is not None:
        mask = _warp(mask.astype(np.float32), matrix, cv2.INTER_LINEAR) >= 0.5
    return _random_intensity(image, config, generator), mask


def _random_affine(
    size: int, config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return a 2 x 3 matrix for a square image: flip, scale, aspect, rotation, shift."""
    scale = np.exp(generator.uniform(-config.scale, config.scale))
    aspect = np.exp(generator.uniform(-config.aspect, config.aspect))
    angle = np.deg2rad(generator.uniform(-1, 1) * config.rotation_degrees)
    flip = -1.0 if generator.random() < config.flip_probability else 1.0
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([flip * scale * aspect, scale / aspect])
    centre = np.full(2, (size - 1) / 2)
    shift = generator.uniform(-config.shift, config.shift, 2) * size
    return np.column_stack([linear, centre - linear @ centre + shift])


def _warp(
    image: NDArray[np.float32], matrix: NDArray[np.float64], interpolation: int
) -> NDArray[np.float32]:
    size = (image.shape[1], image.shape[0])
    warped = cv2.warpAffine(
        image, matrix, size, flags=interpolation, borderMode=cv2.BORDER_REPLICATE
    )
    return warped.astype(np.float32, copy=False)


def _random_intensity(
    image: NDArray[np.float32], config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Shift the window's edges, bend the greys, blur and add noise."""
    low = generator.uniform(-config.window / 2, config.window)
    high = 1 + generator.uniform(-config.window, config.window / 2)
    gamma = np.exp(generator.uniform(-config.gamma, config.gamma))
    sigma = generator.uniform(0, config.blur_sigma)
    deviation = generator.uniform(0, config.noise)
    image = np.clip((image - low) / (high - low), 0, 1).astype(np.float32) ** np.float32(gamma)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.float32, copy=False)
    noise = generator.standard_normal(image.shape, np.float32) * np.float32(deviation)
    changed: NDArray[np.float32] = np.clip(image + noise, 0, 1)
    return changed
