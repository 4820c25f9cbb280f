"""A sheet of pictures of what a manifest lists, as the network sees it, for a person's eye."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.data.splits import hash_share
from model.files import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.data.check import Check
    from model.data.reading import ReadPicture

COLUMNS = 10
_TILE = 128
_HEADING = 22
_SHEET_PAIRS = 20
_RED, _WHITE, _YELLOW = (60, 60, 255), (255, 255, 255), (80, 220, 255)


def draw_contact_sheet(path: Path, check: Check) -> None:
    """Draw up to `COLUMNS` slices of each source, class and split, then those in question.

    Parameters
    ----------
    path
        PNG file to write; whole or not at all.
    check
        What `model.data.check.check_manifest` found. Lesions are outlined in red. Which slices
        are shown hangs on the hash of their names, so the sheet is the same each time.
    """
    bands: list[NDArray[np.uint8]] = []
    by_name = {picture.name: picture for picture in check.pictures}
    for count in check.counts:
        members = [
            picture
            for picture, split in zip(check.pictures, check.splits, strict=True)
            if (picture.row.source, picture.covid, split)
            == (count.source, count.covid, count.split)
        ]
        members.sort(key=lambda picture: hash_share(picture.name))
        label = {True: "COVID-19", False: "no COVID-19", None: "class unknown"}[count.covid]
        bands.append(
            _band(f"{count.source}: {label}, {count.split}, {count.slices} slices", members)
        )
    shown = [f for f in check.findings if f.paths and set(f.paths) <= by_name.keys()]
    bands += [
        _band(finding.kind, [by_name[name] for name in finding.paths], _YELLOW)
        for finding in shown[:_SHEET_PAIRS]
    ]
    if not bands:
        return
    encoded, data = cv2.imencode(".png", np.concatenate(bands))
    if not encoded:
        raise ValueError("the sheet cannot be encoded")
    with replaced(path) as temporary:
        temporary.write_bytes(data.tobytes())


def tile(
    image: NDArray[np.float32], mask: NDArray[np.bool_] | None, size: int = _TILE
) -> NDArray[np.uint8]:
    """Return an input as a BGR picture of (size, size, 3), its lesions outlined."""
    grey = (cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) * 255).astype(np.uint8)
    coloured = np.repeat(grey[..., None], 3, axis=2)
    if mask is not None and mask.any():
        larger = cv2.resize(mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(larger, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(coloured, outlines, -1, _RED, 1)
    return coloured


def _band(
    heading: str, pictures: Sequence[ReadPicture], colour: tuple[int, int, int] = _WHITE
) -> NDArray[np.uint8]:
    band = np.zeros((_HEADING + _TILE, COLUMNS * _TILE, 3), np.uint8)
    cv2.putText(band, heading, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    for number, picture in enumerate(pictures[:COLUMNS]):
        columns = slice(number * _TILE, (number + 1) * _TILE)
        band[_HEADING:, columns] = tile(picture.image, picture.mask)
    return band
