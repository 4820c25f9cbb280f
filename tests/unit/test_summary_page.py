"""The summary page: what is shown, and where."""

import numpy as np
import pytest
from support.synthetic_result import (
    TINY_LESIONS,
    Ellipsoid,
    context_of,
    predict,
    tiny_series,
)

from dicom_node.objects.colours import lesion_colour
from dicom_node.objects.slice_picture import body_box, choose_slices, patient_directions
from dicom_node.objects.summary_page import render_overlay
from model.prediction import Laterality


def pixels_of(page, colour):
    distance = np.abs(page.astype(int) - np.array(colour)).max(axis=2)
    return int((distance < 40).sum())


def test_the_most_affected_slices_are_chosen_apart_from_each_other():
    series = tiny_series()
    prediction = predict(series, TINY_LESIONS)
    chosen = choose_slices(series, prediction, 4)

    areas = np.count_nonzero(prediction.lesion_mask.labels, axis=(1, 2))
    assert areas.argmax() in chosen
    assert chosen == sorted(chosen, reverse=True)
    assert min(-np.diff(chosen)) * series.volume.spacing_mm[0] >= 15


def test_without_lesions_slices_are_spread_over_the_lung():
    series = tiny_series()
    chosen = choose_slices(series, predict(series, ()), 4)

    assert len(chosen) >= 3
    assert set(chosen) <= set(predict(series, ()).screened_slices)


def test_the_box_holds_the_body():
    series = tiny_series()
    left, top, right, bottom = body_box(series.volume, [6])
    body = np.argwhere(series.volume.hounsfield[6] > -300)

    assert (top, left) <= tuple(body.min(axis=0))
    assert (bottom, right) > tuple(body.max(axis=0))


def test_directions_follow_the_orientation():
    series = tiny_series()
    assert patient_directions(series.volume) == ("R", "L")
    series.volume.affine[:3, 2] *= -1
    assert patient_directions(series.volume) == ("L", "R")


def test_each_lesion_is_drawn_and_listed_in_its_colour():
    series = tiny_series()
    empty = render_overlay(series, predict(series, ()))
    page = render_overlay(series, predict(series, TINY_LESIONS))

    for number in (1, 2):
        assert pixels_of(empty, lesion_colour(number)) == 0
        in_pictures = pixels_of(page[:, :774], lesion_colour(number))
        in_legend = pixels_of(page[:, 774:], lesion_colour(number))
        assert in_pictures > 0
        assert in_legend > 50


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_lesions_fits_the_page(count):
    series = tiny_series()
    lesions = tuple(
        Ellipsoid((0.5, 0.3 + 0.01 * number, 0.3), (1, 1, 1), Laterality.RIGHT)
        for number in range(count)
    )
    page = render_overlay(series, predict(series, lesions))

    assert page.shape == (866, 1024, 3)
    assert page.dtype == np.uint8


def test_the_page_names_the_model_that_spoke():
    series = tiny_series()
    context = context_of(series)
    prediction = predict(series, TINY_LESIONS)
    footer = render_overlay(series, prediction)[-34:]

    assert prediction.model == context.model
    assert len(np.unique(footer.reshape(-1, 3), axis=0)) > 2, "something is written there"
