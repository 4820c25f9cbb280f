"""Outlines of lesions on a slice."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dicom_node.objects.outline import regions


def polygon_area(outline):
    column, row = outline[:-1].T
    return abs(column @ np.roll(row, -1) - row @ np.roll(column, -1)) / 2


def test_a_rectangle_is_outlined_on_the_edges_of_its_pixels():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:17] = True

    (region,) = regions(mask)

    assert region.pixel_count == 35
    assert polygon_area(region.outline) == 35
    assert region.outline.min(axis=0).tolist() == [10, 4]
    assert region.outline.max(axis=0).tolist() == [17, 9]
    assert (region.outline[0] == region.outline[-1]).all()


def test_the_largest_region_comes_first():
    mask = np.zeros((20, 20), bool)
    mask[2, 2] = True
    mask[10:15, 10:15] = True

    assert [region.pixel_count for region in regions(mask)] == [25, 1]


def test_no_lesion_has_no_region():
    assert regions(np.zeros((5, 5), bool)) == []


@settings(max_examples=50, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_every_pixel_lies_in_one_region_and_within_its_outline(mask):
    found = regions(mask)

    assert sum(region.pixel_count for region in found) == mask.sum()
    for region in found:
        low, high = region.outline.min(axis=0), region.outline.max(axis=0)
        assert (low >= 0).all()
        assert (high <= mask.shape[::-1]).all()
        assert np.prod(high - low) >= region.pixel_count


def test_a_ragged_region_keeps_to_a_size_viewers_can_draw():
    generator = np.random.default_rng(1)
    mask = generator.random((512, 512)) < 0.6

    assert len(regions(mask)[0].outline) <= 2001
