"""Samples from a drawn manifest: labels, splits, transposition, masks, DICOM and NIfTI."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from support.nifti import write_nifti
from support.training_data import DrawnData

from model.config import Task
from model.data.dataset import (
    Split,
    hash_share,
    load_samples,
    near_duplicate_groups,
    require_both_classes,
    require_labels,
    require_measurable,
    sources_with_both_classes,
)
from model.data.manifest import LabelOrigin, ManifestRow, write_manifest
from model.errors import DatasetError
from model.volume import CtVolume


def _figure(seed, shape=(120, 180)):
    """A body with two lungs and speckle of its own."""
    generator = np.random.default_rng(seed)
    figure = np.zeros(shape, np.uint8)
    figure[10:-10, 15:-15] = 220
    figure[30:-30, 30:80] = 40
    figure[30:-30, 100:150] = 40
    blocks = generator.integers(0, 30, (12, 18)).astype(np.uint8)
    return figure + cv2.resize(blocks, shape[::-1], interpolation=cv2.INTER_NEAREST)


def _volume(slices=1, *, lung=True):
    hounsfield = np.full((slices, 120, 180), -1000, np.int16)
    hounsfield[:, 10:-10, 15:-15] = 40
    if lung:
        hounsfield[:, 30:-30, 30:80] = -850
        hounsfield[:, 30:-30, 100:150] = -850
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2], [0, 2, 0], [10, 0, 0]])
    return CtVolume(hounsfield, (10.0, 2.0, 2.0), affine)


@pytest.fixture
def manifest(tmp_path):
    """Three COVID-CT figures, one SemiSeg figure, one LUNA slice, and what must not train."""
    data = DrawnData(tmp_path)
    data.add("covid-ct/train/COVID/a.png", _figure(1), "COVID", "Patient 1")
    data.add("covid-ct/train/NonCOVID/b.png", _figure(2), "NonCOVID", "Patient 2")
    data.add("covid-ct/val/NonCOVID/c.png", _figure(3), "NonCOVID", "Patient 3")
    data.add("luna-noncovid/d.png", _figure(4), "NonCOVID", "1.2.3")
    mask = np.zeros((120, 180), np.uint8)
    mask[30:40, 30:80] = 255
    data.add("covid-semiseg/train/img/7.png", _figure(5).T, "COVID")
    data.add("covid-semiseg/train/mask/7.png", mask.T, "mask")
    data.add("series/x/e.png", _figure(6), "COVID")
    data.add("odd/f.png", _figure(7), "COVID")
    return data.manifest()


def _write(folder, *rows):
    """Write a manifest of rows whose images are drawn where they are missing."""
    for number, row in enumerate(rows):
        target = folder / row.path
        if target.suffix == ".png" and not target.exists():
            cv2.imwrite(str(target), _figure(number))
    path = folder / "m.csv"
    write_manifest(path, rows)
    return path


def test_labels_splits_and_shapes(manifest):
    samples = {sample.path: sample for sample in load_samples(manifest, 64)}
    assert len(samples) == 5
    assert not [path for path in samples if path.startswith(("series", "odd"))]
    first = samples["covid-ct/train/COVID/a.png"]
    assert (first.covid, first.split, first.mask) == (True, Split.TRAIN, None)
    assert first.group == "covid-ct/covid"
    assert samples["covid-ct/val/NonCOVID/c.png"].split is Split.VALIDATION
    for sample in samples.values():
        assert sample.image.shape == (64, 64)
        assert sample.image.dtype == np.float32
        assert 0 <= sample.image.min() < 0.05
        assert 0.95 < sample.image.max() <= 1


def test_semiseg_is_turned_upright_with_its_mask(manifest):
    (sample,) = [s for s in load_samples(manifest, 90) if s.source == "covid-semiseg"]
    # The lesion is drawn along the upper edge of the left half, in radiological orientation.
    rows, columns = np.argwhere(sample.mask).mean(axis=0)
    assert rows < 30
    assert columns < 45
    assert sample.image[45, 25] < 0.4


def test_dicom_slices_come_through_the_reader_and_those_without_lung_do_not(tmp_path):
    for name in ("lung.dcm", "abdomen.dcm"):
        (tmp_path / name).touch()
    path = _write(
        tmp_path,
        *(ManifestRow(n, covid=False, source="s") for n in ("lung.dcm", "abdomen.dcm", "a.png")),
    )

    def read(path, mask):
        assert mask is None
        return _volume(lung=path.stem == "lung"), None

    assert [s.path for s in load_samples(path, 64, read)] == ["lung.dcm", "a.png"]
    assert [s.hounsfield for s in load_samples(path, 64, read)] == [True, False]
    assert [s.path for s in load_samples(path, 64)] == ["a.png"]


def test_a_series_gives_its_slices_with_lung_and_a_clear_slice_of_the_ill_has_no_class(tmp_path):
    (tmp_path / "series").mkdir()
    (tmp_path / "seg.dcm").touch()
    lesions = np.zeros((4, 120, 180), np.bool_)
    lesions[2, 40:60, 40:60] = True

    def read(path, mask):
        assert (path.name, mask.name) == ("series", "seg.dcm")
        return _volume(4), lesions

    path = _write(tmp_path, ManifestRow("series", covid=True, mask="seg.dcm", source="own"))
    samples = load_samples(path, 64, read)
    assert [sample.path for sample in samples] == [f"series#{index}" for index in range(4)]
    assert [sample.covid for sample in samples] == [None, None, True, None]
    assert [bool(sample.mask.any()) for sample in samples] == [False, False, True, False]
    assert len({(sample.patient, sample.split) for sample in samples}) == 1
    assert samples[0].group == "own/unknown"


def test_hounsfield_units_in_nifti_and_dicom_become_the_same_input(tmp_path):
    volume = _volume(2)
    (tmp_path / "a.dcm").touch()
    mask = np.zeros((120, 180), np.uint8)
    mask[35:50, 40:60] = 2
    stored = volume.hounsfield.transpose(2, 1, 0)
    write_nifti(tmp_path / "v.nii.gz", stored)
    write_nifti(tmp_path / "m.nii.gz", np.stack([mask.T, 0 * mask.T], axis=2))
    path = _write(
        tmp_path,
        ManifestRow("v.nii.gz#0", covid=True, mask="m.nii.gz#0", source="n"),
        ManifestRow("v.nii.gz#1", covid=True, mask="m.nii.gz#1", source="n"),
        ManifestRow("a.dcm", covid=False, source="d"),
    )
    first, second, dicom = load_samples(path, 64, lambda *_: (_volume(), None))
    # Not the same pixels: the lungs are found by grey levels there and by Hounsfield units here.
    assert np.corrcoef(first.image.ravel(), dicom.image.ravel())[0, 1] > 0.9
    assert first.hounsfield
    assert first.mask.any()
    assert not second.mask.any()
    assert first.patient == second.patient


def test_nifti_lies_as_its_header_says(tmp_path):
    upright = _figure(3)
    upright[35:45, 35:45] = 180
    images = {}
    for name, matrix, stored in (
        ("unknown", None, upright.T),
        ("left-posterior", np.diag([-1.0, -1, 1]), upright.T),
        ("right-anterior", np.diag([1.0, 1, 1]), upright.T[::-1, ::-1]),
        ("swapped", np.array([[0, -1.0, 0], [-1, 0, 0], [0, 0, 1]]), upright),
    ):
        write_nifti(tmp_path / f"{name}.nii", stored[..., None].astype(np.float32), matrix)
        path = _write(tmp_path, ManifestRow(f"{name}.nii", source="n"))
        images[name] = load_samples(path, 48)[0].image
    for image in images.values():
        np.testing.assert_array_equal(image, images["unknown"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (_figure(1) / np.float32(255), r"row 2: a\.nii: values from 0.* to 1.*are neither"),
        (np.full((120, 180), -1000, np.int16), r"row 2: a\.nii: shows nothing.*-1000"),
    ],
)
def test_nifti_that_holds_no_greys_is_refused_not_rounded(tmp_path, values, message):
    values = values / values.max() if values.dtype == np.float32 else values
    write_nifti(tmp_path / "a.nii", values.T[..., None])
    path = _write(tmp_path, ManifestRow("a.nii", source="n"))
    with pytest.raises(DatasetError, match=message):
        load_samples(path, 32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: (folder / "a.png").write_bytes(b"no image"),
            r"row 2: .*a\.png: is no",
        ),
        (lambda folder: (folder / "a.png").unlink(), r"row 2: a\.png: there is no such file"),
        (lambda folder: (folder / "mask.png").unlink(), r"row 2: mask\.png: there is no such file"),
        (
            lambda folder: cv2.imwrite(str(folder / "mask.png"), np.zeros((9, 9), np.uint8)),
            r"row 2: mask\.png: is 9 x 9, but its image a\.png is 120 x 180",
        ),
        (
            lambda folder: cv2.imwrite(str(folder / "a.png"), np.zeros((120, 180), np.uint16)),
            "16 bits",
        ),
        (
            lambda folder: cv2.imwrite(str(folder / "a.png"), np.full((120, 180), 7, np.uint8)),
            r"row 2: a\.png: shows nothing, every pixel is 7; replace it",
        ),
    ],
)
def test_a_bad_file_is_named_with_its_row_and_the_way_out(tmp_path, spoil, message):
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((120, 180), np.uint8))
    path = _write(tmp_path, ManifestRow("a.png", covid=True, mask="mask.png", source="s"))
    assert len(load_samples(path, 32)) == 1
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=message):
        load_samples(path, 32)


def test_a_jpeg_that_is_cut_off_is_not_taken_for_an_image(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), _figure(1))
    data = (tmp_path / "a.jpg").read_bytes()
    path = _write(tmp_path, ManifestRow("a.jpg", source="s"))
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match=r"row 2: .*a\.jpg"):
        load_samples(path, 32)


def test_a_png_that_is_cut_off_is_told_of_in_our_words_only(tmp_path, capfd):
    cv2.imwrite(str(tmp_path / "a.png"), _figure(1))
    data = (tmp_path / "a.png").read_bytes()
    path = _write(tmp_path, ManifestRow("a.png", source="s"))
    for length in (len(data) // 2, len(data) - 1, 20):
        (tmp_path / "a.png").write_bytes(data[:length])
        with pytest.raises(DatasetError, match=r"row 2: .*a\.png.*cut off"):
            load_samples(path, 32)
    assert capfd.readouterr().err == ""


def test_a_colour_profile_changes_nothing_and_says_nothing(tmp_path, capfd):
    figure = Image.fromarray(_figure(1))
    figure.save(tmp_path / "a.png")
    rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    figure.save(tmp_path / "b.png", icc_profile=rgb)
    path = _write(tmp_path, *(ManifestRow(f"{name}.png", source="s") for name in "ab"))
    plain, profiled = load_samples(path, 32)
    np.testing.assert_array_equal(plain.image, profiled.image)
    assert "libpng" not in capfd.readouterr().err


def test_every_label_of_a_mask_counts(tmp_path):
    mask = np.zeros((120, 180), np.uint8)
    mask[40:60, 40:60], mask[60:80, 40:60] = 1, 2
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    row = ManifestRow("a.png", covid=True, mask="mask.png", source="s", cut_at_lungs=True)
    (sample,) = load_samples(_write(tmp_path, row), 60)
    assert np.count_nonzero(sample.mask) == pytest.approx(800 / 6, rel=0.1)


def test_what_the_network_sees_never_hangs_on_the_mask(tmp_path):
    mask = np.zeros((120, 180), np.uint8)
    mask[40:60, 40:60] = 1
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    row = ManifestRow("a.png", covid=True, source="s")
    (without,) = load_samples(_write(tmp_path, row), 60)
    (drawn,) = load_samples(_write(tmp_path, replace(row, mask="mask.png")), 60)
    assert np.array_equal(without.image, drawn.image)


def test_unknown_patients_are_clusters_of_near_duplicates_within_a_source(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 1)):
        image = _figure(seed)
        image[0, 0] = ord(name)  # near, not exact, duplicates
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    cv2.imwrite(str(tmp_path / "d.png"), np.rot90(_figure(9, (180, 180)) ** 2))
    path = _write(
        tmp_path,
        ManifestRow("a.png", source="s", split=Split.TEST),
        ManifestRow("b.png", source="s"),
        ManifestRow("c.png", source="other"),
        ManifestRow("d.png", source="s"),
    )
    a, b, c, d = load_samples(path, 32)
    assert a.patient == b.patient != c.patient
    assert a.patient != d.patient
    assert a.split is b.split is Split.TEST


def test_a_row_without_split_follows_its_patient(tmp_path):
    rows = [ManifestRow(f"{n}.png", patient="p", source="s") for n in range(3)]
    rows[1] = ManifestRow("1.png", patient="p", source="s", split=Split.TEST)
    assert {sample.split for sample in load_samples(_write(tmp_path, *rows), 32)} == {Split.TEST}


def test_pseudo_labels_can_be_left_out(tmp_path):
    path = _write(
        tmp_path,
        ManifestRow("a.png", covid=True, source="s"),
        ManifestRow("b.png", covid=True, source="s", label_origin=LabelOrigin.PSEUDO),
    )
    assert [s.label_origin for s in load_samples(path, 32)] == [*LabelOrigin]
    assert [s.path for s in load_samples(path, 32, human_only=True)] == ["a.png"]


def test_classes_by_source_and_split(manifest):
    samples = load_samples(manifest, 32)
    assert sources_with_both_classes(samples) == ("covid-ct",)
    require_both_classes(samples, Split.TRAIN)
    with pytest.raises(DatasetError, match="validation: holds no sample with COVID-19"):
        require_both_classes(samples, Split.VALIDATION)


def test_a_task_that_nothing_can_teach_is_refused(manifest):
    samples = load_samples(manifest, 32)
    require_labels(samples, list(Task))
    undrawn = [sample for sample in samples if sample.mask is None]
    require_labels(undrawn, [Task.CLASSIFICATION, Task.RECONSTRUCTION])
    with pytest.raises(DatasetError, match="on no sample a lesion is drawn; add rows with masks"):
        require_labels(undrawn, list(Task))
    drawn = [sample for sample in samples if sample.mask is not None]
    require_labels(drawn, [Task.SEGMENTATION])
    with pytest.raises(DatasetError, match="train: holds no sample without COVID-19"):
        require_labels(drawn, list(Task))


def test_near_duplicates_share_a_number_also_through_others():
    base = _figure(1).astype(np.float32) / 255
    other = np.rot90(_figure(2), 2).astype(np.float32)[:, ::-1] ** 2
    noisy = np.clip(base + np.random.default_rng(0).normal(0, 0.02, base.shape), 0, 1)
    groups = near_duplicate_groups([base, np.ascontiguousarray(other.T), noisy.astype(np.float32)])
    assert groups[0] == groups[2] != groups[1]
    assert near_duplicate_groups([]) == []


def test_hash_share_is_the_same_everywhere_and_even():
    assert hash_share("Patient 1") == hash_share("Patient 1")
    shares = [hash_share(f"patient {number}") for number in range(2000)]
    assert 0.17 < np.mean(np.array(shares) < 0.2) < 0.23


def test_a_task_that_validation_cannot_measure_is_refused(manifest):
    def held_out(*sources):
        return [replace(each, split=Split.VALIDATION) for each in samples if each.source in sources]

    samples = load_samples(manifest, 32)
    drawn = next(sample for sample in samples if sample.mask is not None and sample.mask.any())
    require_measurable(held_out("covid-ct", drawn.source), list(Task))
    one_class = [each for each in held_out("covid-ct") if each.covid]
    require_measurable(one_class, [Task.RECONSTRUCTION])
    with pytest.raises(DatasetError, match="no source holds samples with and without COVID-19"):
        require_measurable(one_class, [Task.CLASSIFICATION])
    blank = replace(one_class[0], mask=np.zeros((32, 32), np.bool_))
    with pytest.raises(DatasetError, match="validation: on no sample a lesion is drawn"):
        require_measurable([blank], [Task.SEGMENTATION])
