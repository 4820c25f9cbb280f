"""A picture of what augmentation does: each change by itself, all together, and pasted lesions."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image

from model.config import AugmentationConfig
from model.data.contact_sheet import tile
from model.files import replaced
from model.preprocessing import enclosed_air
from model.training.augmentation import augment
from model.training.lesion_pasting import paste_lesions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.data.dataset import Sample

DRAWS = 6
_TILE = 92
_LABEL = 18
_EXAMPLES = 2
# Enough greys to see what changes, and a small file.
_COLOURS = 28


def draw_augmentations(
    path: Path, samples: Sequence[Sample], config: AugmentationConfig, seed: int = 0
) -> None:
    """Draw the changes of a training image, original first, lesions outlined.

    Parameters
    ----------
    path
        PNG file to write; whole or not at all.
    samples
        Images to change, at least one; the first one that has lesions shows the single changes.
    config
        Strength of each change; one that is off gets no row.
    seed
        The same seed draws the same picture.
    """
    generator = np.random.default_rng(seed)
    marked = [sample for sample in samples if sample.mask is not None and sample.mask.any()]
    shown = (marked or list(samples))[0]
    bands: list[NDArray[np.uint8]] = []
    off = AugmentationConfig(**dict.fromkeys((item.name for item in fields(config)), 0))
    for item in fields(config):
        strength = getattr(config, item.name)
        if strength:
            single = replace(off, **{item.name: strength})
            bands.append(_band(f"{item.name} {strength:g}", shown, single, generator))
    examples = [shown, *(each for each in samples if each is not shown)][:_EXAMPLES]
    bands += [_band("all together", each, config, generator) for each in examples]
    bands += _pasted(samples, marked, generator)
    sheet = Image.fromarray(np.concatenate(bands)[..., ::-1].copy())
    few = sheet.quantize(_COLOURS, dither=Image.Dither.NONE)
    with replaced(path) as temporary:
        few.save(temporary, format="PNG", optimize=True)


def _band(
    label: str, sample: Sample, config: AugmentationConfig, generator: np.random.Generator
) -> NDArray[np.uint8]:
    pictures = [(sample.image, sample.mask)]
    pictures += [augment(sample.image, sample.mask, config, generator) for _ in range(DRAWS)]
    return _row(label, pictures)


def _row(
    label: str, pictures: Sequence[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]
) -> NDArray[np.uint8]:
    row = np.zeros((_LABEL + _TILE, (DRAWS + 1) * _TILE, 3), np.uint8)
    cv2.putText(
        row, label, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA
    )
    for number, (image, mask) in enumerate(pictures):
        row[_LABEL:, number * _TILE : (number + 1) * _TILE] = tile(image, mask, _TILE)
    return row


def _pasted(
    samples: Sequence[Sample],
    donors: list[Sample],
    generator: np.random.Generator,
) -> list[NDArray[np.uint8]]:
    """Show lesions of some samples in the lungs of one without, where there are both."""
    clear = [each for each in samples if each.covid is False]
    if not donors or not clear:
        return []
    target = max(clear, key=lambda each: int(enclosed_air(each.image).sum()))
    pictures: list[tuple[NDArray[np.float32], NDArray[np.bool_] | None]] = [(target.image, None)]
    pictures += filter(None, (paste_lesions(target.image, donors, generator) for _ in range(DRAWS)))
    return [_row("lesions of others laid into it (paste_shares)", pictures)]
