"""The page a reader sees who has no viewer for segmentations: slices, figures, and its status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dicom_node.objects.colours import lesion_colour
from dicom_node.objects.segmentation import lesion_label
from dicom_node.objects.slice_picture import body_box, choose_slices, draw_slice, patient_directions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Finding, Prediction

STATUS = "FOR REVIEW - NOT VERIFIED - research use"
PICTURES = 4

_WIDTH = 1024
_HEADER = 52
_FOOTER = 34
_GAP = 6
_PICTURE = 384
_HEIGHT = _HEADER + 2 * (_PICTURE + _GAP) + _FOOTER
_PANEL_LEFT = 2 * (_PICTURE + _GAP) + 14
_PANEL_WIDTH = _WIDTH - _PANEL_LEFT - 14

_BACKGROUND = (13, 17, 23)
_BAR = (28, 36, 48)
_TEXT = (236, 240, 245)
_MUTED = (150, 162, 178)
_AMBER = (255, 190, 60)


def render_overlay(series: CtSeries, prediction: Prediction) -> NDArray[np.uint8]:
    """Draw the summary page of a prediction.

    It shows no name, number or date of the patient.

    Parameters
    ----------
    series
        The source series.
    prediction
        What the network said of it.

    Returns
    -------
    ndarray
        RGB picture of shape (rows, columns, 3) and type uint8, 1024 columns wide.
    """
    page = Image.new("RGB", (_WIDTH, _HEIGHT), _BACKGROUND)
    draw = ImageDraw.Draw(page)
    _draw_header(draw)
    _draw_pictures(page, draw, series, prediction)
    top = _draw_figures(draw, prediction, _HEADER + 14)
    _draw_legend(draw, prediction, top)
    _draw_footer(draw, prediction)
    return np.asarray(page)


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType; install its wheel")
    return font


def _draw_header(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, _WIDTH, _HEADER - _GAP), fill=_BAR)
    middle = (_HEADER - _GAP) // 2
    draw.text((14, middle), "Lungwatch CT screening", _TEXT, _font(22), anchor="lm")
    draw.text((_WIDTH - 14, middle), STATUS, _AMBER, _font(20), anchor="rm")


def _draw_pictures(
    page: Image.Image, draw: ImageDraw.ImageDraw, series: CtSeries, prediction: Prediction
) -> None:
    slices = choose_slices(series, prediction, PICTURES)
    box = body_box(series.volume, slices)
    left_letter, right_letter = patient_directions(series.volume)
    for position, index in enumerate(slices):
        left = (position % 2) * (_PICTURE + _GAP)
        top = _HEADER + (position // 2) * (_PICTURE + _GAP)
        page.paste(draw_slice(series, prediction, index, box, _PICTURE), (left, top))
        middle = top + _PICTURE // 2
        _draw_label(draw, (left + 8, top + 8), _name_slice(series, index), "la")
        _draw_label(draw, (left + 8, middle), left_letter, "lm")
        _draw_label(draw, (left + _PICTURE - 8, middle), right_letter, "rm")


def _draw_label(
    draw: ImageDraw.ImageDraw, position: tuple[int, int], text: str, anchor: str
) -> None:
    """Write on a slice: the dark rim keeps the text legible on bone and on air."""
    draw.text(position, text, _TEXT, _font(16), anchor=anchor, stroke_width=2, stroke_fill="black")


def _name_slice(series: CtSeries, index: int) -> str:
    """Name a slice by the number a viewer shows beside it."""
    frame = series.slices[index].frame_number
    if frame is not None:
        return f"Frame {frame}"
    number = series.sources[index].get("InstanceNumber")
    return f"Image {number}" if number is not None else f"Slice {index + 1}"


def _draw_figures(draw: ImageDraw.ImageDraw, prediction: Prediction, top: int) -> int:
    left = _PANEL_LEFT
    draw.text((left, top), "COVID-19 probability", _MUTED, _font(15))
    draw.text((left, top + 18), _percent(prediction.covid_probability), _TEXT, _font(52))
    reached = "reached" if prediction.positive else "not reached"
    status = f"Operating point {100 * prediction.operating_point:.0f} % {reached}"
    draw.text((left, top + 84), status, _AMBER if prediction.positive else _MUTED, _font(14))
    count = sum(finding.component_count for finding in prediction.findings)
    lines = (
        ("Lesions", str(count)),
        ("Lesion volume", f"{prediction.total_lesion_volume_ml:.1f} mL"),
        ("Lung volume", f"{prediction.lung_volume_ml:.0f} mL"),
        ("Lung involvement", f"{prediction.lung_involvement_percent:.1f} %"),
    )
    top += 118
    for name, value in lines:
        draw.text((left, top), name, _MUTED, _font(15))
        draw.text((left + _PANEL_WIDTH, top), value, _TEXT, _font(15), anchor="ra")
        top += 24
    return top + 14


def _percent(probability: float) -> str:
    """Write a probability as a percentage that never claims certainty."""
    percent = round(100 * probability)
    if percent in {0, 100}:
        return "< 1 %" if percent == 0 else "> 99 %"
    return f"{percent} %"


def _draw_legend(draw: ImageDraw.ImageDraw, prediction: Prediction, top: int) -> None:
    left, line = _PANEL_LEFT, 46
    draw.line((left, top, left + _PANEL_WIDTH, top), fill=_BAR, width=2)
    top += 14
    if not prediction.findings:
        draw.text((left, top), "No lesion found", _TEXT, _font(15))
        return
    room = (_HEIGHT - _FOOTER - top) // line
    fits = len(prediction.findings) <= room
    shown = prediction.findings if fits else prediction.findings[: room - 1]
    for finding in shown:
        colour = lesion_colour(finding.segment_number)
        draw.rounded_rectangle((left, top + 2, left + 12, top + 14), 3, fill=colour)
        draw.text((left + 22, top), _fit(lesion_label(finding), 15), _TEXT, _font(15))
        draw.text((left + 22, top + 19), _describe(finding), _MUTED, _font(13))
        top += line
    if not fits:
        rest = prediction.findings[room - 1 :]
        volume = sum(finding.volume_ml for finding in rest)
        count = sum(finding.component_count for finding in rest)
        draw.text((left + 22, top), f"{count} more, {volume:.1f} mL", _MUTED, _font(15))


def _fit(text: str, size: int) -> str:
    font = _font(size)
    while font.getlength(text) > _PANEL_WIDTH - 22:
        text = text[:-2] + "…"
    return text


def _describe(finding: Finding) -> str:
    volume, diameter = finding.volume_ml, finding.maximum_diameter_mm
    return f"{volume:.1f} mL, {finding.mean_hu:.0f} HU, {diameter:.0f} mm"


def _draw_footer(draw: ImageDraw.ImageDraw, prediction: Prediction) -> None:
    draw.rectangle((0, _HEIGHT - _FOOTER, _WIDTH, _HEIGHT), fill=_BAR)
    middle = _HEIGHT - _FOOTER // 2
    model = prediction.model
    version = f"Model {model.name} {model.version}, weights {model.sha256[:12]}"
    draw.text((14, middle), version, _MUTED, _font(14), anchor="lm")
    note = (
        "Outlines drawn by AI; the segmentation holds all slices"
        if prediction.findings
        else "Slices spread over the lung"
    )
    draw.text((_WIDTH - 14, middle), note, _MUTED, _font(14), anchor="rm")
