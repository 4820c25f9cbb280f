"""What `check_manifest` finds in drawn data, and the sheets that are drawn of it."""

import cv2
import numpy as np
import pytest

from model.config import AugmentationConfig
from model.data.check import Kind, check_manifest
from model.data.contact_sheet import draw_contact_sheet
from model.data.dataset import Sample
from model.data.manifest import ManifestRow, Split, write_manifest
from model.training.augmentation_picture import DRAWS, draw_augmentations
from model.volume import CtVolume

TRAIN, VALIDATION = Split.TRAIN, Split.VALIDATION


def _chest(seed, size=160):
    """A picture with a coarse and a fine structure of its own, as one patient's slice has."""
    generator = np.random.default_rng(seed)
    coarse, fine = (
        cv2.resize(generator.random((n, n)).astype(np.float32), (size, size)) for n in (6, 30)
    )
    return (255 * (0.7 * coarse + 0.3 * fine)).astype(np.uint8)


class Folder:
    def __init__(self, path):
        self.path = path
        self.rows = []

    def add(self, name, image, **row):
        cv2.imwrite(str(self.path / name), image)
        self.rows.append(ManifestRow(name, **{"source": "s"} | row))

    def check(self):
        path = self.path / "m.csv"
        write_manifest(path, self.rows)
        return check_manifest(path, None)


@pytest.fixture
def folder(tmp_path):
    """Both classes in both splits, all patients known, nothing wrong."""
    folder = Folder(tmp_path)
    for seed, (covid, split) in enumerate(
        ((True, TRAIN), (False, TRAIN), (True, VALIDATION), (False, VALIDATION))
    ):
        name = f"{seed}.png"
        folder.add(name, _chest(seed), covid=covid, patient=f"P{seed}", split=split)
    return folder


def _kinds(check):
    return [finding.kind for finding in check.findings]


def test_sound_data_have_no_finding(folder):
    check = folder.check()
    assert check.findings == ()
    assert not check.failed
    assert [(c.covid, c.split, c.slices, c.patients) for c in check.counts] == [
        (False, TRAIN, 1, 1),
        (False, VALIDATION, 1, 1),
        (True, TRAIN, 1, 1),
        (True, VALIDATION, 1, 1),
    ]
    assert check.shortcut.one_class_sources == ()
    assert check.shortcut.auc == 0.5


def test_a_patient_in_two_splits_is_a_leak(folder):
    folder.add("4.png", _chest(4), covid=True, patient="P0", split=VALIDATION)
    check = folder.check()
    assert _kinds(check) == [Kind.PATIENT_LEAK]
    assert check.findings[0].paths == ("0.png", "4.png")
    assert check.failed


@pytest.mark.parametrize("source", ["s", "another"])
def test_the_same_image_in_two_splits_is_a_leak_within_and_across_sources(folder, source):
    folder.add("4.png", _chest(0), covid=True, patient="P4", split=VALIDATION, source=source)
    assert _kinds(folder.check()) == [Kind.EXACT_LEAK]


def test_another_window_and_size_is_a_near_duplicate(folder):
    window = np.clip((_chest(0).astype(np.float32) - 10) * 1.2, 0, 255).astype(np.uint8)
    changed = cv2.resize(window, (240, 220), interpolation=cv2.INTER_AREA)
    folder.add("4.png", changed, covid=True, patient="P4", split=VALIDATION)
    check = folder.check()
    assert _kinds(check)[0] is Kind.NEAR_LEAK
    assert check.findings[0].paths == ("0.png", "4.png")
    assert check.failed


def test_the_same_image_with_two_classes_is_a_contradiction(folder):
    folder.add("4.png", _chest(0), covid=False, patient="P4", split=TRAIN)
    assert _kinds(folder.check()) == [Kind.CONTRADICTION]


def test_two_names_and_repetitions_are_told_and_do_not_fail(folder):
    folder.add("4.png", _chest(0), covid=True, patient="P0", split=TRAIN)
    near = cv2.GaussianBlur(_chest(1), (3, 3), 0)
    folder.add("5.png", near, covid=False, patient="P5", split=TRAIN)
    check = folder.check()
    assert sorted(_kinds(check)) == sorted([Kind.REPEATED, Kind.TWO_NAMES])
    assert not check.failed


def test_one_name_in_two_sources_and_splits_is_told(folder):
    folder.add("4.png", _chest(4), covid=True, patient="P0", split=VALIDATION, source="t")
    check = folder.check()
    assert _kinds(check) == [Kind.NAME_IN_SOURCES]
    assert not check.failed


def test_near_duplicates_of_unknown_patients_are_kept_together(tmp_path):
    folder = Folder(tmp_path)
    for number in range(4):
        folder.add(f"{number}.png", cv2.GaussianBlur(_chest(0), (0, 0), 0.5 + number / 4))
    check = folder.check()
    assert check.findings == ()
    assert len(set(check.splits)) == 1
    assert check.unknown_patients == 4
    assert check.counts[0].patients == 1


def test_all_unreadable_files_are_listed(folder):
    (folder.path / "1.png").write_bytes(b"no image")
    (folder.path / "2.png").unlink()
    folder.add("4.png", np.zeros((160, 160), np.uint8), covid=True, patient="P4", split=TRAIN)
    check = folder.check()
    assert [f.paths for f in check.findings if f.kind is Kind.UNREADABLE] == [
        ("1.png",),
        ("2.png",),
        ("4.png",),
    ]
    assert _kinds(check).count(Kind.EMPTY_CLASS) == 2
    assert check.failed


def test_a_single_dicom_slice_with_little_lung_is_to_be_looked_at(folder):
    (folder.path / "a.dcm").touch()
    folder.rows.append(ManifestRow("a.dcm", covid=False, patient="D", source="d", split=TRAIN))
    path = folder.path / "m.csv"
    write_manifest(path, folder.rows)

    def read(_path, _mask):
        hounsfield = np.full((1, 120, 180), -1000, np.int16)
        hounsfield[:, 10:-10, 15:-15] = 40
        hounsfield[:, 50:75, 50:66] = -850  # 25 x 16 pixels of 4 mm2: 16 cm2
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0, 0, 2], [0, 2, 0], [1, 0, 0]])
        return CtVolume(hounsfield, (1.0, 2.0, 2.0), affine), None

    check = check_manifest(path, read)
    assert _kinds(check) == [Kind.LITTLE_LUNG]
    assert "a.dcm shows 1" in check.findings[0].text
    assert not check.failed


def test_a_source_of_one_class_is_a_shortcut_and_its_strength_is_told(folder):
    for number in range(10, 14):
        split = TRAIN if number < 12 else VALIDATION
        folder.add(
            f"{number}.png",
            _chest(number),
            covid=False,
            patient=str(number),
            split=split,
            source="n",
        )
    shortcut = folder.check().shortcut
    assert shortcut.one_class_sources == (("n", False),)
    # Validation: of s one each, of n two without. A pair within s is a tie, with n it is won.
    assert shortcut.auc == pytest.approx((0.5 + 2) / 3)
    assert shortcut.accuracy == 0.75


def test_the_contact_sheet_shows_each_group_and_the_pairs_in_question(folder):
    folder.add("4.png", _chest(0), covid=True, patient="P4", split=VALIDATION)
    mask = np.zeros((160, 160), np.uint8)
    mask[50:70, 30:50] = 1
    cv2.imwrite(str(folder.path / "mask.png"), mask)
    folder.add("5.png", _chest(5), covid=True, patient="P5", split=TRAIN, mask="mask.png")
    check = folder.check()
    path = folder.path / "sheet.png"
    draw_contact_sheet(path, check)
    sheet = cv2.imread(str(path))
    assert sheet.shape == ((len(check.counts) + 1) * 150, 1280, 3)
    red = (sheet[..., 2] == 255) & (sheet[..., 0] < 100)
    assert red.any(), "the lesion is outlined"
    bands = sheet.reshape(len(check.counts) + 1, 150, 1280, 3)[:, 22:]
    pictures = [(band[:, :128].std() > 20, band[:, 128:256].std() > 20) for band in bands]
    assert pictures == [(True, False), (True, False), (True, True), (True, True), (True, True)]


def test_the_picture_of_augmentation_has_a_row_for_each_change(tmp_path):
    body = np.full((64, 64), 0.8, np.float32)
    body[12:52, 6:28] = body[12:52, 36:58] = 0.1
    mask = np.zeros((64, 64), np.bool_)
    mask[20:36, 10:24] = True
    samples = [
        Sample("a", "s", TRAIN, "a", True, np.where(mask, np.float32(0.6), body), mask),  # noqa: FBT003
        Sample("b", "s", TRAIN, "b", False, body),  # noqa: FBT003
    ]
    config = AugmentationConfig(noise=0, blur_sigma=0)
    path, again = tmp_path / "a.png", tmp_path / "b.png"
    draw_augmentations(path, samples, config, seed=1)
    draw_augmentations(again, samples, config, seed=1)
    assert path.read_bytes() == again.read_bytes()
    picture = cv2.imread(str(path))
    rows = 7 + 2 + 1  # changes that are on, two examples, pasted lesions
    band = picture.reshape(rows, -1, picture.shape[1], 3)
    side = picture.shape[1] // (DRAWS + 1)
    for row in band[:-1]:
        tiles = [row[18:, n * side : (n + 1) * side].astype(float) for n in range(DRAWS + 1)]
        assert max(np.abs(tile - tiles[0]).mean() for tile in tiles[1:]) > 1
