"""A synthetic chest CT with lesions whose true extent is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from model.volume import CtVolume
from worker.demo.anatomy import LUNG, Plane, chest, lungs
from worker.demo.vessels import grow_vessels, paint_vessels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from worker.demo.anatomy import Image, Mask

GROUND_GLASS, CONSOLIDATION = 1, 2

_SLICES, _MATRIX = 60, 512
_PIXEL_MM, _SLICE_MM = 0.75, 5.0
_LOWEST_MM = -20.0
_NOISE_HU = 28.0


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A synthetic chest and the truth about it.

    Attributes
    ----------
    volume
        The chest.
    lesions
        Array of the volume's shape: 0 none, 1 ground glass, 2 consolidation.
    """

    volume: CtVolume
    lesions: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Lesion:
    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]
    consolidated: float


def build_phantom(seed: int = 0) -> Phantom:
    """Build a chest with six peripheral lesions, most of them low and posterior.

    Parameters
    ----------
    seed
        Another seed gives other vessels, lesions and noise; the same one the same voxels.
    """
    rng = np.random.default_rng(seed)
    axis = ((np.arange(_MATRIX) - (_MATRIX - 1) / 2) * _PIXEL_MM).astype(np.float32)
    heights = _LOWEST_MM + _SLICE_MM * np.arange(_SLICES)
    planes = [Plane(axis[None, :], axis[:, None], float(z)) for z in heights]
    vessels = grow_vessels(rng)
    lesions = _place_lesions(rng)
    texture = _texture(rng)
    hounsfield = np.empty((_SLICES, _MATRIX, _MATRIX), dtype=np.int16)
    truth = np.zeros(hounsfield.shape, dtype=np.uint8)
    for index, plane in enumerate(planes):
        right, left = lungs(plane)
        lung = right | left
        image = chest(plane)
        grain = ndimage.zoom(texture[index], _MATRIX / texture.shape[1], order=1)
        image[lung] += 25 * grain[lung] + np.broadcast_to(0.45 * plane.y, lung.shape)[lung]
        paint_vessels(image, plane, vessels, lung)
        truth[index] = _paint_lesions(image, plane, lesions, grain, lung)
        hounsfield[index] = _as_measured(image, rng)
    affine = np.diag([_SLICE_MM, _PIXEL_MM, _PIXEL_MM, 1.0])[[2, 1, 0, 3]]
    affine[:3, 3] = (axis[0], axis[0], _LOWEST_MM)
    return Phantom(CtVolume(hounsfield, (_SLICE_MM, _PIXEL_MM, _PIXEL_MM), affine), truth)


def _place_lesions(rng: np.random.Generator) -> list[_Lesion]:
    placed = []
    for side, angle, height in (
        (-1, 0.75, 70),
        (-1, 0.15, 110),
        (1, 0.70, 80),
        (1, 0.95, 125),
        (-1, 0.95, 150),
        (1, -0.25, 165),
    ):
        turned = angle + rng.normal(scale=0.08)
        z = height + rng.normal(scale=5)
        # Just inside the pleura at that height, where COVID-19 lesions lie.
        centre = (side * 118 * np.cos(turned), 6 + 80 * np.sin(turned), z)
        size = rng.uniform(0.8, 1.25)
        half_axes = (21 * size, 22 * size, 19 * size)
        placed.append(_Lesion(centre, half_axes, consolidated=rng.choice([0.0, 0.45, 0.6])))
    return placed


def _texture(rng: np.random.Generator) -> NDArray[np.float32]:
    noise = rng.standard_normal((_SLICES, 128, 128), dtype=np.float32)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(noise, (0.8, 2.0, 2.0))
    smooth /= smooth.std()
    return smooth


def _paint_lesions(
    image: Image, plane: Plane, lesions: list[_Lesion], grain: Image, lung: Mask
) -> NDArray[np.uint8]:
    truth = np.zeros(image.shape, dtype=np.uint8)
    for lesion in lesions:
        (x, y, z), (half_x, half_y, half_z) = lesion.centre, lesion.half_axes
        if abs(plane.z - z) > 2 * half_z:
            continue
        in_plane = plane.ellipse(x, y, half_x, half_y)
        distance = np.hypot(in_plane, (plane.z - z) / half_z) + 0.13 * grain
        glass = (distance < 1) & lung
        core = (distance < lesion.consolidated) & lung
        haze = np.maximum(image, LUNG + 400 + 45 * grain)
        image += np.where(glass, np.clip((1 - distance) / 0.2, 0.4, 1), 0) * (haze - image)
        image[core] = 10 + 15 * grain[core]
        truth[glass] = GROUND_GLASS
        truth[core] = CONSOLIDATION
    return truth


def _as_measured(image: Image, rng: np.random.Generator) -> NDArray[np.int16]:
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), 0.7)
    noise *= _NOISE_HU / noise.std()
    measured: Image = ndimage.gaussian_filter(image, 0.7) + noise
    return np.clip(np.rint(measured), -1024, 3071).astype(np.int16)
