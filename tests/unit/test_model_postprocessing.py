"""Lesions: connection in three dimensions, numbering, and measurement."""

import numpy as np
import pytest

from model.lungs import Side
from model.postprocessing import LesionRules, label_lesions, lesion_slice, measure_findings
from model.prediction import Laterality
from model.preprocessing import Box, Geometry
from model.volume import CtVolume

SPACING = (4.0, 2.0, 1.0)
RULES = LesionRules(minimum_ml=0.0, maximum_segments=20)


@pytest.fixture
def volume():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = [[0, 0, SPACING[2]], [0, SPACING[1], 0], [SPACING[0], 0, 0]]
    return CtVolume(np.full((6, 20, 30), -500, np.int16), SPACING, affine)


@pytest.fixture
def sides():
    sides = np.full((6, 20, 30), Side.RIGHT, np.uint8)
    sides[..., 15:] = Side.LEFT
    return sides


def _lesions(*boxes):
    mask = np.zeros((6, 20, 30), np.bool_)
    for box in boxes:
        mask[box] = True
    return mask


def test_touching_corners_connect_and_the_largest_comes_first(volume):
    lesions = _lesions(
        np.s_[0, 0, 0], np.s_[1, 1, 1], np.s_[2, 2, 2], np.s_[4, 10:15, 10:15], np.s_[0, 19, 29]
    )
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, RULES)
    assert components == (1, 1, 1)
    assert mask.labels[4, 12, 12] == 1
    assert mask.labels[0, 0, 0] == mask.labels[1, 1, 1] == mask.labels[2, 2, 2] == 2
    assert mask.labels[0, 19, 29] == 3
    np.testing.assert_array_equal(mask.labels > 0, lesions)


def test_smaller_lesions_than_the_minimum_are_left_out(volume):
    lesions = _lesions(np.s_[0, 0:5, 0:5], np.s_[3, 10, 10])
    rules = LesionRules(minimum_ml=0.1, maximum_segments=20)
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, rules)
    assert components == (1,)
    assert not mask.labels[3].any()


def test_the_last_segment_gathers_the_rest(volume):
    lesions = _lesions(*(np.s_[0, 0 : 10 - 2 * n, 6 * n] for n in range(5)))
    rules = LesionRules(minimum_ml=0.0, maximum_segments=3)
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, rules)
    assert components == (1, 1, 3)
    assert np.bincount(mask.labels.ravel())[1:].tolist() == [10, 8, 6 + 4 + 2]


def test_three_hundred_lesions_keep_inside_the_number_of_labels(volume):
    lesions = np.zeros((6, 20, 30), np.bool_)
    lesions[::2, ::2, ::2] = True
    rules = LesionRules(minimum_ml=0.0, maximum_segments=255)
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, rules)
    assert mask.labels.max() == 255 == len(components)
    assert sum(components) == 450
    np.testing.assert_array_equal(mask.labels > 0, lesions)


def test_no_lesions_give_no_findings(volume, sides):
    mask, components = label_lesions(_lesions(), volume.voxel_volume_ml, RULES)
    assert components == ()
    assert measure_findings(mask, components, volume, sides) == ()


def test_measurements_of_a_known_lesion(volume, sides):
    volume.hounsfield[1, 2:6, 2:8] = -100
    lesions = _lesions(np.s_[1, 2:6, 2:8], np.s_[2, 2:4, 2:4])
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, RULES)
    (finding,) = measure_findings(mask, components, volume, sides)
    assert finding.voxel_count == 28
    assert finding.volume_ml == pytest.approx(28 * 8 / 1000)
    assert finding.slice_indices == (1, 2)
    assert finding.largest_slice_index == 1
    assert finding.laterality is Laterality.RIGHT
    assert finding.mean_hu == pytest.approx((24 * -100 + 4 * -500) / 28)
    # Corner to corner between voxel centres: 3 rows of 2 mm, 5 columns of 1 mm.
    assert finding.maximum_diameter_mm == pytest.approx(np.hypot(6, 5))


@pytest.mark.parametrize(
    ("columns", "laterality"),
    [
        (np.s_[0:15], Laterality.RIGHT),
        (np.s_[15:30], Laterality.LEFT),
        (np.s_[10:20], Laterality.BILATERAL),
        (np.s_[0:16], Laterality.RIGHT),
    ],
)
def test_laterality_comes_from_the_lung_the_voxels_lie_in(volume, sides, columns, laterality):
    lesions = _lesions(np.s_[2, 3, columns])
    mask, components = label_lesions(lesions, volume.voxel_volume_ml, RULES)
    assert measure_findings(mask, components, volume, sides)[0].laterality is laterality


def test_lesions_stay_inside_the_lung():
    lung = np.zeros((40, 40), np.bool_)
    lung[:, :20] = True
    geometry = Geometry((40, 40), Box(0, 0, 40, 40), 32)
    lesion = lesion_slice(np.ones((32, 32), np.float32), geometry, lung, 0.5)
    np.testing.assert_array_equal(lesion, lung)
