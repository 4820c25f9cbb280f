"""Small chest CTs on disk: drawn ones without anatomy, and a phantom whose lungs can be found."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from support.synthetic_result import tiny_series

from dicom_node.objects.pseudonymous_slices import Pseudonym, encode_slice
from model.volume import CtVolume
from worker.demo.phantom import build_phantom

if TYPE_CHECKING:
    from pathlib import Path


def write_small_ct(
    folder: Path, study: str = "study", volume: CtVolume | None = None
) -> list[Path]:
    """Write a volume, 12 slices of 64 x 96 voxels if none is given, as CT Image Storage files."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = volume or tiny_series().volume
    paths = []
    for index in range(volume.shape[0]):
        path = folder / f"{index:02d}.dcm"
        path.write_bytes(encode_slice(volume, index, Pseudonym("patient", study)))
        paths.append(path)
    return paths


@lru_cache(maxsize=1)
def small_phantom() -> tuple[CtVolume, np.ndarray]:
    """The synthetic chest on a grid of 20 x 128 x 128 voxels, and its lesions."""
    phantom = build_phantom()
    steps = (3, 4, 4)
    every = tuple(slice(None, None, step) for step in steps)
    affine = phantom.volume.affine @ np.diag([*steps, 1.0])
    spacing = tuple(
        size * step for size, step in zip(phantom.volume.spacing_mm, steps, strict=True)
    )
    hounsfield = np.ascontiguousarray(phantom.volume.hounsfield[every])
    return CtVolume(hounsfield, spacing, affine), phantom.lesions[every] > 0
