"""From pixels to the network's input and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.preprocessing import (
    Box,
    Geometry,
    IntensityRange,
    apply_window,
    enclosed_air,
    figure_to_unit,
    lung_box,
)


def test_window_has_its_level_in_the_middle_and_clips():
    values = apply_window(np.array([-3000, -1350, -600, 150, 3000], np.int16))
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1], atol=1e-6)


def test_figure_greys_become_shares():
    np.testing.assert_allclose(figure_to_unit(np.array([0, 51, 255], np.uint8)), [0, 0.2, 1])


def test_stretch_makes_figures_of_two_windows_alike():
    values = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    narrow = values * 0.4 + 0.3
    stretched = IntensityRange.of(values).stretch(values)
    np.testing.assert_allclose(IntensityRange.of(narrow).stretch(narrow), stretched, atol=1e-4)


def test_a_flat_image_is_not_stretched():
    assert IntensityRange.of(np.full(100, 0.5, np.float32)) == IntensityRange(0.0, 1.0)


def test_box_has_a_margin_but_stays_on_the_grid():
    mask = np.zeros((100, 200), np.bool_)
    mask[0:40, 100:200] = True
    assert Box.around(mask, margin=0.1) == Box(0, 90, 44, 200)
    assert Box.around(np.zeros((3, 3), np.bool_)) is None


def test_a_box_grows_about_its_centre_and_stays_on_the_grid():
    assert Box(40, 40, 60, 60).grown_to(40, 10, (100, 100)) == Box(30, 40, 70, 60)
    assert Box(0, 90, 10, 100).grown_to(30, 30, (100, 100)) == Box(0, 70, 30, 100)
    assert Box(0, 0, 10, 10).grown_to(500, 500, (100, 120)) == Box.whole((100, 120))


@st.composite
def geometries(draw):
    rows, columns = draw(st.integers(40, 300)), draw(st.integers(40, 300))
    top, left = draw(st.integers(0, rows - 32)), draw(st.integers(0, columns - 32))
    bottom, right = draw(st.integers(top + 32, rows)), draw(st.integers(left + 32, columns))
    size = draw(st.sampled_from([128, 256]))
    return Geometry((rows, columns), Box(top, left, bottom, right), size)


@settings(max_examples=60, deadline=None)
@given(geometry=geometries(), data=st.data())
def test_a_mask_returns_to_where_it_was(geometry, data):
    box = geometry.box
    height, width = box.shape
    top = data.draw(st.integers(0, height - 16)) + box.top
    left = data.draw(st.integers(0, width - 16)) + box.left
    mask = np.zeros(geometry.source_shape, np.bool_)
    mask[top : top + 16, left : left + 16] = True
    returned = geometry.to_source(geometry.mask_to_input(mask).astype(np.float32)) >= 0.5
    # A pixel of the input covers up to three source pixels, so an edge may move by two.
    rows, columns = np.argwhere(returned).mean(axis=0)
    assert abs(rows - (top + 7.5)) <= 1.0
    assert abs(columns - (left + 7.5)) <= 1.0
    grown = np.zeros_like(mask)
    grown[max(0, top - 2) : top + 18, max(0, left - 2) : left + 18] = True
    assert not (returned & ~grown).any()
    core = np.zeros_like(mask)
    core[top + 2 : top + 14, left + 2 : left + 14] = True
    assert not (core & ~returned).any()


def test_nothing_comes_back_outside_of_the_box():
    geometry = Geometry((50, 60), Box(10, 20, 40, 50), 32)
    source = geometry.to_source(np.ones((32, 32), np.float32))
    assert source[10:40, 20:50].min() == 1
    source[10:40, 20:50] = 0
    assert not source.any()


def _drawn_chest():
    image = np.zeros((200, 300), np.float32)
    image[20:180, 30:270] = 0.9  # body
    image[50:150, 60:130] = 0.2  # lungs
    image[50:150, 170:240] = 0.2
    return image


def test_air_inside_the_body_is_found_and_air_outside_is_not():
    air = enclosed_air(_drawn_chest())
    assert air[100, 100]
    assert air[100, 200]
    assert not air[5, 5]
    assert not air[100, 150]


def test_lung_box_of_a_figure():
    box = lung_box(_drawn_chest())
    assert box.top == pytest.approx(45, abs=4)
    assert box.right == pytest.approx(249, abs=4)


def test_a_figure_cropped_into_the_lung_is_taken_whole():
    assert lung_box(_drawn_chest()[60:140, 70:120]) == Box(0, 0, 80, 50)
