"""The stack of planes: any order in, the same stack out; whatever spoils it is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ct_headers import make_frames

from dicom_node.errors import RefusedError
from dicom_node.reading.geometry import GeometryTolerances, stack_frames
from dicom_node.reasons import Reason

SPACINGS = st.floats(0.4, 10.0)
COUNTS = st.integers(4, 60)
# A busy machine is no failure.
unhurried = settings(deadline=None, max_examples=60)


def reason_of(frames) -> Reason:
    with pytest.raises(RefusedError) as refused:
        stack_frames(frames)
    return refused.value.reason


@unhurried
@given(COUNTS, SPACINGS, st.randoms(use_true_random=False))
def test_any_order_gives_the_same_stack(count, spacing, random):
    frames = make_frames([-500 + spacing * k for k in range(count)])
    order = list(range(count))
    random.shuffle(order)
    stack = stack_frames([frames[i] for i in order])
    assert [order[i] for i in stack.order] == list(range(count))
    assert stack.spacing_mm == pytest.approx((spacing, 0.7, 0.7))
    assert stack.duplicates == ()


@unhurried
@given(COUNTS, SPACINGS, st.data())
def test_affine_maps_indices_to_positions(count, spacing, data):
    frames = make_frames([spacing * k for k in range(count)])
    stack = stack_frames(frames)
    k = data.draw(st.integers(0, count - 1))
    mapped = stack.affine @ [k, 0, 0, 1]
    assert mapped[:3] == pytest.approx(frames[k].position)
    assert (stack.affine @ [0, 10, 0, 1])[:3] == pytest.approx((-170, -153, 0))
    assert (stack.affine @ [0, 0, 10, 1])[:3] == pytest.approx((-163, -160, 0))


@unhurried
@given(COUNTS, SPACINGS, st.data())
def test_a_dropped_inner_slice_is_always_detected(count, spacing, data):
    frames = make_frames([spacing * k for k in range(count)])
    del frames[data.draw(st.integers(1, count - 2))]
    expected = (
        {Reason.MISSING_SLICES} if count > 5 else {Reason.MISSING_SLICES, Reason.IRREGULAR_SPACING}
    )
    assert reason_of(frames) in expected


@unhurried
@given(COUNTS, SPACINGS, st.floats(1.0, 30.0))
def test_a_shear_is_always_detected(count, spacing, degrees):
    step = spacing * np.tan(np.radians(degrees))
    frames = make_frames([spacing * k for k in range(count)], lateral_step=step)
    assert reason_of(frames) is Reason.GANTRY_TILT


@unhurried
@given(COUNTS, SPACINGS, st.floats(0.0, 9.0))
def test_a_slightly_oblique_stack_along_its_own_normal_is_axial(count, spacing, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    frames = [
        replace(f, orientation=(1.0, 0.0, 0.0, 0.0, c, s), position=(0.0, -s * h, c * h))
        for f, h in ((f, f.position[2]) for f in make_frames([spacing * k for k in range(count)]))
    ]
    assert stack_frames(frames).spacing_mm[0] == pytest.approx(spacing)


@unhurried
@given(COUNTS, SPACINGS, st.floats(0.25, 0.75), st.data())
def test_a_shifted_slice_is_detected(count, spacing, shift, data):
    heights = [spacing * k for k in range(count)]
    heights[data.draw(st.integers(1, count - 2))] += shift * spacing
    assert reason_of(make_frames(heights)) in {Reason.IRREGULAR_SPACING, Reason.MISSING_SLICES}


@unhurried
@given(st.lists(st.floats(-0.04, 0.04), min_size=10, max_size=50))
def test_rounded_positions_are_tolerated(errors):
    frames = make_frames([2.0 * k + 2.0 * error for k, error in enumerate(errors)])
    assert len(stack_frames(frames).order) == len(errors)


@unhurried
@given(COUNTS, SPACINGS, st.data())
def test_of_frames_at_one_position_the_first_is_kept(count, spacing, data):
    frames = make_frames([spacing * k for k in range(count)])
    k = data.draw(st.integers(0, count - 1))
    stack = stack_frames([*frames, frames[k]])
    assert stack.order == tuple(range(count))
    assert stack.duplicates == ((k, count),)


def test_slices_ascend_along_the_normal_where_it_points_to_the_feet():
    frames = make_frames([0.0, 2.0, 4.0], orientation=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0))
    stack = stack_frames(frames)
    assert stack.order == (2, 1, 0)
    assert stack.affine[2, 0] == pytest.approx(-2.0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ({"position": None}, Reason.MISSING_GEOMETRY),
        ({"orientation": None}, Reason.MISSING_GEOMETRY),
        ({"pixel_spacing": None}, Reason.MISSING_GEOMETRY),
        ({"pixel_spacing": (0.0, 0.7)}, Reason.MISSING_GEOMETRY),
        ({"orientation": (0.0,) * 6}, Reason.MISSING_GEOMETRY),
        ({"pixel_spacing": (0.8, 0.8)}, Reason.MIXED_ORIENTATIONS),
        ({"orientation": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)}, Reason.MIXED_ORIENTATIONS),
        ({"orientation": (0.0, -1.0, 0.0, 1.0, 0.0, 0.0)}, Reason.MIXED_ORIENTATIONS),
        ({"position": (0.0, -160.0, 10.0)}, Reason.IRREGULAR_SPACING),
    ],
)
def test_one_spoilt_frame_is_named(spoil, reason):
    frames = make_frames([2.0 * k for k in range(20)])
    frames[5] = replace(frames[5], **spoil)
    assert reason_of(frames) is reason


@pytest.mark.parametrize(
    "orientation", [(0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (1, 0, 0, 0, 0.9588197, 0.2840153)]
)
def test_other_planes_are_not_axial(orientation):
    frames = make_frames([2.0 * k for k in range(20)], orientation=orientation)
    assert reason_of(frames) is Reason.NOT_AXIAL


def test_one_position_is_no_stack():
    assert reason_of(make_frames([5.0, 5.0])) is Reason.TOO_FEW_SLICES
    assert reason_of(make_frames([5.0])) is Reason.TOO_FEW_SLICES
    assert reason_of([]) is Reason.MISSING_GEOMETRY


def test_tolerances_are_settings():
    frames = make_frames([0.0, 2.0, 4.0, 6.3])
    assert reason_of(frames) is Reason.IRREGULAR_SPACING
    stack_frames(frames, GeometryTolerances(spacing_fraction=0.2))
