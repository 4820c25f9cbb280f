"""The choice of the series: a reason for each one not taken, and the preferences among the rest."""

from __future__ import annotations

import math
import random
import warnings
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    ComprehensiveSRStorage,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from support.ct_headers import make_series

from dicom_node.reading.limits import ReadLimits
from dicom_node.reading.series import SelectionPolicy, select_series
from dicom_node.reasons import Reason

SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def test_an_ideal_series_is_chosen():
    selection = select_series(make_series())
    assert selection.chosen == "1.2.3.4"
    assert selection.reason is None
    assert selection.decisions[0].reason is None
    assert selection.decisions[0].instance_count == 100


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"sop_class_uid": ComprehensiveSRStorage, "modality": "SR"}, Reason.NOT_CT),
        ({"sop_class_uid": SecondaryCaptureImageStorage}, Reason.NOT_CT),
        ({"modality": "PT"}, Reason.NOT_CT),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, Reason.LOCALIZER),
        ({"image_type": ("DERIVED", "SECONDARY", "MIP")}, Reason.DERIVED_IMAGE),
        ({"image_type": ("DERIVED", "SECONDARY", "PROJECTION IMAGE")}, Reason.DERIVED_IMAGE),
        ({"series_description": "Thorax MIP 8.0"}, Reason.DERIVED_IMAGE),
        ({"rescale_type": "Z_EFF"}, Reason.DERIVED_IMAGE),
        ({"body_part_examined": "HEAD"}, Reason.NOT_CHEST),
        ({"body_part_examined": "", "protocol_name": "1F STEREOTAXIS /Head"}, Reason.NOT_CHEST),
        ({"body_part_examined": "", "study_description": "CT Abdomen"}, Reason.NOT_CHEST),
        ({"slices": 50}, Reason.NOT_CHEST),
        ({"transfer_syntax_uid": JPEGBaseline8Bit}, Reason.UNSUPPORTED_TRANSFER_SYNTAX),
        ({"transfer_syntax_uid": ""}, Reason.UNSUPPORTED_TRANSFER_SYNTAX),
        ({"orientation": SAGITTAL}, Reason.NOT_AXIAL),
        ({"orientation": None}, Reason.MISSING_GEOMETRY),
        ({"number_of_frames": 3}, Reason.MISSING_GEOMETRY),
        ({"slices": 15, "spacing": 10.0}, Reason.TOO_FEW_SLICES),
        ({"gantry_tilt": 16.5}, Reason.GANTRY_TILT),
        ({"rescale_slope": None}, Reason.MISSING_RESCALE),
        ({"rescale_slope": 0.0}, Reason.MISSING_RESCALE),
        ({"rescale_intercept": None}, Reason.MISSING_RESCALE),
        ({"pixel_data_complete": False}, Reason.SHORT_PIXEL_DATA),
        ({"rows": 65535, "columns": 65535}, Reason.TOO_LARGE),
        ({"rows": None}, Reason.UNDECODABLE_PIXELS),
    ],
)
def test_each_fault_has_its_reason(facts, reason):
    selection = select_series(make_series(**facts))
    assert selection.chosen is None
    assert selection.reason is reason
    assert selection.decisions[0].reason is reason
    assert selection.detail


@pytest.mark.parametrize(
    ("facts", "detail"),
    [
        ({"body_part_examined": "ARM OF DOE"}, "body part examined names 'ARM'"),
        ({"body_part_examined": "DOE"}, "body part examined does not name the chest"),
        (
            {"body_part_examined": "", "study_description": "DOE ABDOMEN"},
            "study description names 'ABD'",
        ),
        ({"series_description": "Thorax MIP DOE"}, "series description names 'MIP'"),
    ],
)
def test_a_refusal_tells_the_word_it_found_and_nothing_else_of_a_description(facts, detail):
    found = select_series(make_series(**facts)).decisions[0].detail
    assert detail in found
    assert "DOE" not in found


@pytest.mark.parametrize(
    "facts",
    [
        {"modality": ""},
        {"transfer_syntax_uid": RLELossless},
        {"image_type": ()},
        {"image_type": ("DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE")},
        {"series_description": "Low dose chest"},
        {"rescale_type": "US"},
        {"rescale_type": "Houndsfield Unit"},
        {"body_part_examined": ""},
        {"body_part_examined": "LUNG"},
        {"body_part_examined": "CHEST_TO_PELVIS"},
        {"body_part_examined": "ABDOMEN", "series_description": "Thorax 1.0 Bl57"},
        {"body_part_examined": "", "protocol_name": "NECK+CHEST"},
        {"body_part_examined": "CHEST", "protocol_name": "01 Head Routine"},
        {"gantry_tilt": 0.0},
        {"gantry_tilt": 12.0, "image_type": ("DERIVED", "SECONDARY", "AXIAL")},
        {"frame_of_reference_uid": ""},
    ],
)
def test_what_real_senders_do_is_accepted(facts):
    assert select_series(make_series(**facts)).reason is None


def test_a_frame_of_reference_per_slice_is_accepted():
    headers = [replace(h, frame_of_reference_uid=f"1.9.{k}") for k, h in enumerate(make_series())]
    assert select_series(headers).reason is None


def test_a_gap_is_named():
    headers = make_series()
    selection = select_series(headers[:40] + headers[42:])
    assert selection.reason is Reason.MISSING_SLICES
    assert "2 missing after slice 40" in selection.detail


def test_uneven_steps_are_named():
    headers = make_series()
    odd = replace(headers[7].frames[0], position=(-170.0, -160.0, 14.8))
    headers[7] = replace(headers[7], frames=(odd,))
    assert select_series(headers).reason is Reason.IRREGULAR_SPACING


def test_two_matrices_in_one_series_are_refused():
    headers = make_series()
    headers[3] = replace(headers[3], rows=256)
    assert select_series(headers).reason is Reason.MIXED_ORIENTATIONS


def test_repeated_instances_are_no_conflict():
    headers = make_series()
    selection = select_series(headers + headers)
    assert selection.reason is None
    assert selection.decisions[0].instance_count == 100


def test_one_instance_with_two_contents_is_a_conflict():
    headers = make_series()
    selection = select_series([*headers, replace(headers[5], content_sha256="ff")])
    assert selection.reason is Reason.CONFLICTING_DUPLICATES


def test_two_kernels_in_one_series_are_a_conflict():
    lung = [
        replace(h, sop_instance_uid=f"{h.sop_instance_uid}.7", convolution_kernel="B70f")
        for h in make_series()
    ]
    assert select_series([*make_series(), *lung]).reason is Reason.CONFLICTING_DUPLICATES


def test_a_localizer_inside_the_series_is_left_out():
    localizer = make_series(slices=1, orientation=SAGITTAL)[0]
    localizer = replace(
        localizer, sop_instance_uid="1.5.1", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")
    )
    assert select_series([*make_series(), localizer]).reason is None


@pytest.mark.parametrize(
    ("better", "worse", "advantage"),
    [
        ({"slice_thickness": 1.0}, {"slice_thickness": 5.0}, "thinner slices"),
        ({"convolution_kernel": "B60f"}, {}, "a lung kernel"),
        ({"slice_thickness": 1.0}, {"convolution_kernel": "B60f"}, "thinner slices"),
        ({}, {"image_type": ("DERIVED", "PRIMARY", "AXIAL")}, "original images"),
        ({"slices": 150}, {}, "more coverage"),
        ({"series_number": 1}, {}, "a lower series number"),
        ({}, {"series_number": None}, "a lower series number"),
    ],
)
@pytest.mark.parametrize("uids", [("1.1", "1.2"), ("1.2", "1.1")])
def test_preferences(better, worse, advantage, uids):
    instances = [*make_series(uids[0], **better), *make_series(uids[1], **worse)]
    selection = select_series(instances)
    assert selection.chosen == uids[0]
    other = next(d for d in selection.decisions if d.series_instance_uid == uids[1])
    assert other.reason is Reason.NOT_PREFERRED
    assert other.detail.endswith(advantage)


def test_equal_series_are_told_apart_by_uid_in_any_order():
    instances = [*make_series("1.2"), *make_series("1.1"), *make_series("1.3")]
    for seed in range(5):
        shuffled = random.Random(seed).sample(instances, len(instances))  # noqa: S311 - no secret
        assert select_series(shuffled) == select_series(instances)
    assert select_series(instances).chosen == "1.1"


def test_the_most_telling_series_gives_the_reason_of_the_study():
    chest = make_series("1.3")
    del chest[50]
    localizer = make_series("1.1", 2, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    report = make_series("1.2", 1, sop_class_uid=ComprehensiveSRStorage, modality="SR")
    selection = select_series([*localizer, *report, *chest])
    assert selection.reason is Reason.MISSING_SLICES
    assert [d.reason for d in selection.decisions] == [
        Reason.LOCALIZER,
        Reason.NOT_CT,
        Reason.MISSING_SLICES,
    ]


def test_an_empty_study_is_refused():
    selection = select_series([])
    assert (selection.chosen, selection.decisions, selection.reason) == (None, (), Reason.NOT_CT)


def test_the_policy_is_a_setting():
    headers = make_series(slices=20)
    relaxed = SelectionPolicy(minimum_slices=10, minimum_coverage_mm=30.0)
    assert select_series(headers, relaxed).reason is None
    strict = SelectionPolicy(limits=ReadLimits(voxels=1000))
    assert select_series(make_series(), strict).reason is Reason.TOO_LARGE


FINITE = st.floats(allow_nan=False, allow_infinity=False)
EXTREMES = st.sampled_from(
    [0.0, -0.0, 5e-324, 1e-320, 1e-9, -1.0, 1e5, 3e5, 1e16, 1e154, -1e200, 1.7e308, -1.7e308]
)
NUMBERS = EXTREMES | FINITE | st.just(math.inf) | st.just(math.nan)


def vectors(length: int) -> st.SearchStrategy[tuple[float, ...] | None]:
    return st.none() | st.tuples(*[NUMBERS] * length)


WILD_FRAMES = st.fixed_dictionaries(
    {},
    optional={
        "position": vectors(3),
        "orientation": vectors(6),
        "pixel_spacing": vectors(2),
        "slice_thickness": st.none() | NUMBERS,
        "rescale_slope": st.none() | NUMBERS,
        "rescale_intercept": st.none() | NUMBERS,
    },
)
INTEGERS = st.none() | st.integers(-(10**30), 10**30)
WILD_FACTS = st.fixed_dictionaries(
    {},
    optional={
        "gantry_tilt": st.none() | NUMBERS,
        "series_number": INTEGERS,
        "instance_number": INTEGERS,
        "rows": INTEGERS,
        "columns": INTEGERS,
        "number_of_frames": st.integers(-1, 3),
        "frames": st.just(()),
    },
)


@settings(deadline=None, max_examples=200)
@given(
    spoilt=st.dictionaries(st.integers(0, 39), st.tuples(WILD_FRAMES, WILD_FACTS), max_size=3),
    everywhere=WILD_FRAMES,
    height=st.just(1.0) | NUMBERS,
)
def test_whatever_headers_say_every_series_gets_its_decision(spoilt, everywhere, height):
    headers = make_series(slices=40, spacing=4.0)
    for k, header in enumerate(headers):
        (frame,) = header.frames
        x, y, z = frame.position
        frame = replace(frame, **{"position": (x, y, z * height)} | everywhere)
        wild_frame, wild_facts = spoilt.get(k, ({}, {}))
        headers[k] = replace(header, **{"frames": (replace(frame, **wild_frame),)} | wild_facts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = select_series(headers)
    assert (selection.chosen is None) is (selection.reason is not None)


@pytest.mark.parametrize(
    "facts",
    [
        {"pixel_spacing": (1e200, 1e200)},
        {"pixel_spacing": (0.0, 0.7)},
        {"pixel_spacing": (5e-324, 5e-324)},
        {"position": (0.0, 0.0, -1.7e308)},
        {"slice_thickness": -2.0},
        {"slice_thickness": 1e300},
        {"orientation": (1e200, 0.0, 0.0, 0.0, 1.0, 0.0)},
    ],
)
def test_numbers_of_no_scanner_are_missing_geometry(facts):
    selection = select_series(make_series(**facts))
    assert selection.reason is Reason.MISSING_GEOMETRY


def test_a_thickness_of_zero_means_unknown():
    selection = select_series(make_series(slice_thickness=0.0))
    assert selection.chosen is not None
    assert selection.detail.startswith("2 mm slices")
