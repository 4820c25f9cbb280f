"""Lesions that networks draw on figures nobody drew on, to train the base model with.

Of the public figures with COVID-19 few have masks. Earlier networks outline the others well enough
to learn from, and every such row says so in its manifest: a site's retraining leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.data.manifest import LabelOrigin, Manifest, ManifestRow, Split, rebased
from model.data.pictures import FIGURE_SUFFIXES, Picture, read_pictures
from model.errors import DatasetError
from model.files import replaced
from model.preprocessing import Geometry, slice_to_input

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.evaluation.slice_model import SliceModel


@dataclass(frozen=True, slots=True)
class PseudoMaskRules:
    """Which drawn lesions are good enough to learn from.

    Attributes
    ----------
    threshold
        Least mean probability of a lesion's pixels.
    smallest_patch
        Least size of a patch, as a share of what the network sees.
    smallest, largest
        Bounds of all lesions together, as shares of what the network sees: less is probably
        nothing, more probably not lung.
    """

    threshold: float = 0.5
    smallest_patch: float = 0.0006
    smallest: float = 0.01
    largest: float = 0.45


def draw_pseudo_masks(
    manifest: Manifest,
    models: Sequence[SliceModel],
    input_size: int,
    masks: Path,
    home: Path,
    rules: PseudoMaskRules | None = None,
    report: Callable[[float], None] | None = None,
) -> tuple[ManifestRow, ...]:
    """Draw lesions on the training figures with COVID-19 that have no mask.

    Parameters
    ----------
    manifest
        The rows; only figures (PNG, JPEG) of split ``train`` get masks, as validation and test
        data must be judged against people.
    models
        Networks whose maps, of the image and of its mirror image, are averaged.
    input_size
        Rows and columns of their input.
    masks
        Folder for the masks, PNGs of the figures' sizes, 0 and 255.
    home
        Folder of the manifest that is to hold the rows.
    rules
        Which lesions are kept.
    report
        Called with the finished share, 0 to 1.

    Returns
    -------
    tuple of ManifestRow
        All rows, seen from `home`. Those with a new mask say ``label_origin`` pseudo.

    Raises
    ------
    DatasetError
        If no row asks for a mask.
    """
    rules = rules or PseudoMaskRules()
    wanted = [row for row in manifest.rows if _asks_for_mask(row)]
    if not wanted:
        raise DatasetError(
            f"{manifest.path}: no figure with COVID-19 of split train is without a mask"
        )
    drawn: dict[str, str] = {}
    for done, row in enumerate(wanted, 1):
        (picture,) = read_pictures(manifest, row, None)
        mask = _draw(picture, models, input_size, rules)
        if mask is not None:
            path = masks / f"{row.number:05d}.png"
            _write(path, mask.T if row.transposed else mask)
            drawn[row.path] = str(path.resolve())
        if report:
            report(done / len(wanted))
    return tuple(
        replace(
            moved := rebased(row, manifest.folder, home),
            mask=drawn.get(row.path, moved.mask),
            label_origin=LabelOrigin.PSEUDO if row.path in drawn else row.label_origin,
        )
        for row in manifest.rows
    )


def _asks_for_mask(row: ManifestRow) -> bool:
    is_figure = row.path.lower().endswith(FIGURE_SUFFIXES)
    return is_figure and row.split is Split.TRAIN and row.covid is True and not row.mask


def _draw(
    picture: Picture, models: Sequence[SliceModel], size: int, rules: PseudoMaskRules
) -> NDArray[np.bool_] | None:
    """Return the lesions on the figure's own grid, or None where they are not to be trusted."""
    geometry = Geometry((picture.unit.shape[0], picture.unit.shape[1]), picture.box, size)
    image = slice_to_input(picture.unit, geometry)
    both = np.stack([image, image[:, ::-1]])
    maps = []
    for model in models:
        lesions = model.run(both).lesion_probability
        if lesions is None:
            raise DatasetError(f"{model.title} draws no lesions: it has no segmentation branch")
        maps += [lesions[0], lesions[1][:, ::-1]]
    kept = _clean(np.mean(maps, axis=0) >= rules.threshold, rules)
    if not rules.smallest <= kept.mean() <= rules.largest:
        return None
    return geometry.to_source(kept.astype(np.float32)) >= 0.5


def _clean(mask: NDArray[np.bool_], rules: PseudoMaskRules) -> NDArray[np.bool_]:
    """Leave out threads and specks: vessels mostly."""
    opened = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    keep = stats[:, cv2.CC_STAT_AREA] >= rules.smallest_patch * mask.size
    keep[0] = False
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def _write(path: Path, mask: NDArray[np.bool_]) -> None:
    with replaced(path) as temporary:
        cv2.imwrite(str(temporary), mask.astype(np.uint8) * 255)
