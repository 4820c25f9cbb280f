"""The lung finder on drawn chests, whose lungs are known."""

import numpy as np
import pytest

from model.errors import NoLungError
from model.lungs import Side, find_lungs
from model.volume import CtVolume

SPACING = (5.0, 2.0, 2.0)


def _ellipse(shape, centre, radii):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1


def _volume(hounsfield, *, mirrored=False):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = [[0, 0, SPACING[2]], [0, SPACING[1], 0], [SPACING[0], 0, 0]]
    if mirrored:
        affine[0, 2] *= -1
    return CtVolume(hounsfield.astype(np.int16), SPACING, affine)


@pytest.fixture
def chest():
    """Twenty slices: air, body, two lungs of different size from slice 5 on, a table."""
    shape = (160, 200)
    hounsfield = np.full((20, *shape), -1000)
    hounsfield[:, _ellipse(shape, (75, 100), (65, 90))] = 40
    right, left = _ellipse(shape, (75, 55), (45, 32)), _ellipse(shape, (75, 145), (40, 30))
    hounsfield[5:, right | left] = -850
    hounsfield[:, 150:153, 20:180] = 300  # table
    return hounsfield, right, left


def test_lungs_sides_and_slices(chest):
    hounsfield, right, left = chest
    lungs = find_lungs(_volume(hounsfield))
    assert lungs.screened_slices == tuple(range(5, 20))
    for side, truth in ((Side.RIGHT, right), (Side.LEFT, left)):
        found = lungs.sides[10] == side
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    truth_ml = 15 * (right | left).sum() * 20 / 1000
    assert lungs.volume_ml == pytest.approx(truth_ml, rel=0.06)
    assert lungs.box.top == pytest.approx(25, abs=6)


def test_each_slice_has_its_own_box_but_no_tiny_one(chest):
    hounsfield, *_ = chest
    hounsfield[19, :, :] = np.where(hounsfield[19] == -850, 40, hounsfield[19])
    hounsfield[19, 60:90, 50:75] = -850
    lungs = find_lungs(_volume(hounsfield))
    boxes = dict(zip(lungs.screened_slices, lungs.boxes(), strict=True))
    assert boxes[10] == lungs.box
    height, width = lungs.box.shape
    assert boxes[19].shape == (height // 2, width // 2)
    assert boxes[19].top <= 60
    assert boxes[19].bottom >= 90


def test_sides_are_the_patients_whatever_way_the_columns_run(chest):
    hounsfield, right, _ = chest
    sides = find_lungs(_volume(hounsfield, mirrored=True)).sides
    assert (sides[10][right] == Side.LEFT).mean() > 0.95


def test_consolidation_inside_and_at_the_pleura_stays_lung(chest):
    hounsfield, right, _ = chest
    shape = hounsfield.shape[1:]
    inside = _ellipse(shape, (75, 55), (8, 8))
    pleural = _ellipse(shape, (117, 55), (4, 4)) & right
    hounsfield[10, inside | pleural] = 20
    lung = find_lungs(_volume(hounsfield)).sides[10] == Side.RIGHT
    assert lung[inside].all()
    assert lung[pleural].mean() > 0.6


def test_ground_glass_is_lung(chest):
    hounsfield, right, _ = chest
    hounsfield[8:12, right] = -450
    assert find_lungs(_volume(hounsfield)).screened_slices == tuple(range(5, 20))
    assert (find_lungs(_volume(hounsfield)).sides[10] == Side.RIGHT)[right].mean() > 0.9


def test_bowel_gas_and_trachea_are_no_lung(chest):
    hounsfield, _, _ = chest
    shape = hounsfield.shape[1:]
    hounsfield[0:3, _ellipse(shape, (50, 100), (20, 30))] = -1000  # stomach
    trachea = _ellipse(shape, (75, 100), (4, 4))
    hounsfield[5:, trachea] = -1000
    lungs = find_lungs(_volume(hounsfield))
    assert lungs.screened_slices == tuple(range(5, 20))
    assert not lungs.sides[10][trachea].any()


def test_padding_outside_of_the_reconstruction_circle_is_air(chest):
    hounsfield, *_ = chest
    hounsfield[:, ~_ellipse(hounsfield.shape[1:], (80, 100), (79, 99))] = -3024
    assert find_lungs(_volume(hounsfield)).screened_slices == tuple(range(5, 20))


def test_lungs_that_touch_are_parted_and_the_mediastinum_is_left_out(chest):
    hounsfield, right, left = chest
    hounsfield[10, 70:80, 80:120] = -850  # anterior junction without visible pleura
    sides = find_lungs(_volume(hounsfield)).sides[10]
    assert (sides[right] == Side.RIGHT).mean() > 0.95
    assert (sides[left] == Side.LEFT).mean() > 0.95
    assert not sides[50, 100]


@pytest.mark.parametrize("value", [-1000, 40])
def test_a_volume_without_lung_is_refused(value):
    with pytest.raises(NoLungError, match="no lung"):
        find_lungs(_volume(np.full((20, 100, 100), value)))
