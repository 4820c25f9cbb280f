"""Axial slices as pictures: which to show, in the lung window, with the lesions outlined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dicom_node.objects.colours import lesion_colour
from dicom_node.objects.outline import regions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Prediction
    from model.volume import CtVolume

_WINDOW_LEVEL_HU = -600
_WINDOW_WIDTH_HU = 1500
_BODY_HU = -300
_BODY_MARGIN = 8
# Neighbouring slices show the same lesion; pictures are at least this far apart.
_DISTANCE_MM = 15.0
# Lines are drawn on a finer grid and averaged, which Pillow's own lines are not.
_OVERSAMPLING = 2
_LINE_WIDTH = 4


def choose_slices(series: CtSeries, prediction: Prediction, count: int) -> list[int]:
    """Choose slices to show: the most affected ones, then slices spread over the lung.

    Returns
    -------
    list of int
        At most `count` different slice indices, from head to foot.
    """
    labels = prediction.lesion_mask.labels
    areas = np.count_nonzero(labels, axis=(1, 2)) if prediction.findings else np.zeros(len(labels))
    distance = math.ceil(_DISTANCE_MM / series.volume.spacing_mm[0])
    affected = (int(index) for index in np.argsort(-areas, kind="stable") if areas[index])
    lung = prediction.screened_slices or tuple(range(len(labels)))
    spread = (lung[int(len(lung) * part)] for part in (0.5, 0.35, 0.65, 0.2, 0.8))
    chosen: list[int] = []
    for index in (*affected, *spread):
        if len(chosen) < count and all(abs(index - other) >= distance for other in chosen):
            chosen.append(index)
    return sorted(chosen, reverse=True)


def body_box(volume: CtVolume, slices: list[int]) -> tuple[int, int, int, int]:
    """Bounding box (left, top, right, bottom) of the body on the given slices, in pixels."""
    dense = np.asarray((volume.hounsfield[slices] > _BODY_HU).any(axis=0))
    # Opening cuts the thin table off the patient.
    body = cv2.morphologyEx(dense.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    rows, columns = body.shape
    count, _, statistics, _ = cv2.connectedComponentsWithStats(body)
    if count == 1:
        return 0, 0, columns, rows
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    left, top, width, height = (int(value) for value in statistics[largest, :4])
    return (
        max(0, left - _BODY_MARGIN),
        max(0, top - _BODY_MARGIN),
        min(columns, left + width + _BODY_MARGIN),
        min(rows, top + height + _BODY_MARGIN),
    )


def draw_slice(
    series: CtSeries,
    prediction: Prediction,
    index: int,
    box: tuple[int, int, int, int],
    size: int,
) -> Image.Image:
    """Draw one slice in the lung window with its lesions outlined in their colours.

    Parameters
    ----------
    series, prediction
        The source and its lesions.
    index
        The slice.
    box
        The part to show: left, top, right, bottom in pixels.
    size
        Edge of the square picture; the slice keeps its proportions in millimetres.
    """
    left, top, right, bottom = box
    _, row_spacing, column_spacing = series.volume.spacing_mm
    extent_mm = max((right - left) * column_spacing, (bottom - top) * row_spacing)
    scale = np.array([column_spacing, row_spacing]) * (size * _OVERSAMPLING / extent_mm)
    width, height = np.rint(scale * (right - left, bottom - top)).astype(int)
    grey = Image.fromarray(_lung_window(series.volume.hounsfield[index, top:bottom, left:right]))
    fine = size * _OVERSAMPLING
    picture = Image.new("RGB", (fine, fine))
    corner = np.array([(fine - width) // 2, (fine - height) // 2])
    picture.paste(
        grey.resize((int(width), int(height)), Image.Resampling.BICUBIC).convert("RGB"),
        tuple(corner.tolist()),
    )
    draw = ImageDraw.Draw(picture)
    labels = prediction.lesion_mask.labels[index]
    for finding in prediction.findings:
        for region in regions(labels == finding.segment_number):
            points = (region.outline - (left, top)) * scale + corner
            draw.line(
                [(float(x), float(y)) for x, y in points],
                fill=lesion_colour(finding.segment_number),
                width=_LINE_WIDTH,
                joint="curve",
            )
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def patient_directions(volume: CtVolume) -> tuple[str, str]:
    """Letters of the patient's directions at the left and the right edge of a slice."""
    x, y, z = volume.affine[:3, 2]
    letters = (("R", "L"), ("A", "P"), ("F", "H"))[int(np.argmax(np.abs((x, y, z))))]
    dominant = max((x, y, z), key=abs)
    return letters if dominant > 0 else (letters[1], letters[0])


def _lung_window(hounsfield: NDArray[np.int16]) -> NDArray[np.uint8]:
    lowest = _WINDOW_LEVEL_HU - _WINDOW_WIDTH_HU / 2
    grey = (hounsfield - lowest) * (255 / _WINDOW_WIDTH_HU)
    window: NDArray[np.uint8] = np.clip(grey, 0, 255).astype(np.uint8)
    return window
