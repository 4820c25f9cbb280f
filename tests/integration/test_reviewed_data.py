"""Reviewed studies as training data: what is written, and that nothing of a patient is in it."""

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from support.command import lungwatch
from support.networks import draw_manifest, write_version
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor, draw, screened
from support.synthetic_result import TINY_LESIONS, predict, tiny_series

from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.reading.reader import read_ct_series
from model.data.dataset import load_samples
from model.data.fingerprints import read_fingerprints, training_fingerprints
from model.data.manifest import LabelOrigin, read_manifest, write_manifest
from model.registry import TRAINING_DATA_FILE
from worker import bootstrap, learning
from worker.audit_entry import AuditOutcome
from worker.db import audit, screenings
from worker.db.tables import Study
from worker.errors import PromotionError, ReviewError, SettingsError
from worker.judgement import RejectReason
from worker.pseudonyms import Pseudonyms
from worker.review.reviews import Reviewer
from worker.training.slices import read_training_slice
from worker.versions.locked_test_set import open_test_set

MASK = predict(tiny_series(), TINY_LESIONS).lesion_mask.labels > 0
READER = Reviewer("Dr. Roe")
CORRECTED = np.roll(MASK, 2, axis=1)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Five screened studies: accepted, cleared, corrected, without outlines, unusable."""
    folder = tmp_path_factory.mktemp("site")
    installation, files = screened(folder, study="1")
    paths = {"1": files}
    for number in "2345":
        paths[number] = write_small_ct(folder / f"ct-{number}", number)
        installation.receive(paths[number])
        installation.screen(StatedPredictor())
    with installation.database.transaction() as session:
        for study in session.query(Study):
            study.patient_id = f"patient {study.id % 4}"
    desk = learning.review_desk(installation.settings)
    desk.accept("1", READER)
    desk.reject("2", RejectReason.FALSE_POSITIVE, READER)
    desk.correct("3", draw(folder / "seg.dcm", paths["3"], CORRECTED), READER)
    desk.reject("4", RejectReason.WRONG_LESIONS, READER)
    desk.reject("5", RejectReason.UNUSABLE, READER)
    yield installation
    installation.database.close()


def test_each_review_becomes_its_row(site, tmp_path):
    data = learning.reviewed_data(site.settings, site.database)
    studies, left = data.collect()
    assert [(each.study_id, each.why) for each in left] == [(5, "rejected as unusable")]
    rows, gone = data.export(studies, tmp_path / "out")
    assert gone == ()
    assert [row.covid for row in rows] == [True, False, True, True]
    assert [bool(row.mask) for row in rows] == [True, True, True, False]
    assert {row.source for row in rows} == {"reviewed"}
    assert {row.label_origin for row in rows} == {LabelOrigin.HUMAN}
    for row, expected in zip(rows, (MASK, np.zeros_like(MASK), CORRECTED), strict=False):
        volume, lesions = read_training_slice(
            tmp_path / "out" / row.path, tmp_path / "out" / row.mask
        )
        assert np.array_equal(volume.hounsfield, tiny_series().volume.hounsfield)
        assert np.allclose(volume.affine, tiny_series().volume.affine)
        assert np.array_equal(lesions, expected)


def test_nothing_of_the_patient_leaves(site, tmp_path):
    data = learning.reviewed_data(site.settings, site.database)
    rows, _ = data.export(data.collect()[0], tmp_path / "out")
    with site.database.reading() as session:
        secrets = {s.patient_id for s in session.query(Study)} | {
            s.study_instance_uid for s in session.query(Study)
        }
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 4 * 12 + 3
    for path in files:
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets)
        assert not any(secret in str(path) for secret in secrets)
        dataset = dcmread(path)
        assert str(dataset.PatientName) == f"{dataset.PatientID}^"
        assert dataset.PatientIdentityRemoved == "YES" or dataset.Modality == "SEG"
        assert not any(element.tag.is_private for element in dataset.iterall())
    assert len({row.patient for row in rows}) == 4


def test_writing_again_gives_the_same_bytes_and_keeps_what_is_there(site, tmp_path):
    data = learning.reviewed_data(site.settings, site.database)
    studies, _ = data.collect()
    rows, _ = data.export(studies, tmp_path / "one")
    data = learning.reviewed_data(site.settings, site.database)
    again, _ = data.export(studies, tmp_path / "two")
    assert rows == again
    first, second = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.dcm")}
        for root in (tmp_path / "one", tmp_path / "two")
    )
    assert first == second
    kept = tmp_path / "one" / rows[0].path / "0001.dcm"
    before = kept.stat().st_mtime_ns
    data.export(studies, tmp_path / "one")
    assert kept.stat().st_mtime_ns == before


def test_long_series_are_thinned_out_with_their_lesions(site, tmp_path):
    data = learning.reviewed_data(site.settings, site.database)
    (row, *_), _ = data.export(data.collect()[0], tmp_path / "out", slices_per_study=5)
    series = read_ct_series(sorted((tmp_path / "out" / row.path).glob("*.dcm")))
    whole = tiny_series().volume
    assert np.array_equal(series.volume.hounsfield, whole.hounsfield[::3])
    assert series.volume.spacing_mm[0] == 3 * whole.spacing_mm[0]
    found = read_corrected_segmentation(tmp_path / "out" / row.mask, series)
    assert np.array_equal(found.mask, MASK[::3])


def test_a_study_whose_files_or_images_changed_teaches_nothing(tmp_path):
    site, _ = screened(tmp_path)
    learning.review_desk(site.settings).accept("1", READER)
    data = learning.reviewed_data(site.settings, site.database)
    studies, left = data.collect()
    assert left == ()
    (kept,) = (site.settings.reviews_dir / "1").glob("*.dcm")
    kept.write_bytes(kept.read_bytes() + b"\0")
    with pytest.raises(ReviewError, match=r"study 1, review 1.*not the segmentation"):
        data.export(studies, tmp_path / "out")
    assert not any((tmp_path / "out").rglob("0001.dcm"))
    with site.database.transaction() as session:
        study = session.query(Study).one()
        screenings.add(session, study, study.screenings[-1].series_instance_uid, "e" * 64)
    studies, left = data.collect()
    assert studies == ()
    assert [(each.study_id, each.why) for each in left] == [(1, "images came after its review")]
    site.database.close()


def test_a_study_whose_images_are_gone_is_left_out_and_the_others_teach(tmp_path):
    site, _ = screened(tmp_path, study="1")
    site.receive(write_small_ct(tmp_path / "ct-2", "2"))
    site.screen(StatedPredictor())
    for number in "12":
        learning.review_desk(site.settings).accept(number, READER)
    data = learning.reviewed_data(site.settings, site.database)
    studies, _ = data.collect()
    with site.database.reading() as session:
        series = [study.screenings[-1].series_instance_uid for study in session.query(Study)]
    before, _ = data.export(studies, tmp_path / "before")
    for path in site.settings.spool_dir.rglob("*.dcm"):
        if dcmread(path).SeriesInstanceUID == series[0]:
            path.unlink()
    rows, left = data.export(studies, tmp_path / "out")
    assert rows == before[1:]
    assert [(each.study_id, each.why) for each in left] == [
        (1, "its images are no longer in the spool")
    ]
    again, left = data.export(studies, tmp_path / "before")
    assert (again, left) == (before, ()), "what was written when they were there is kept"
    given = {"data_dir": site.settings.data_dir, **SMALL}
    out = tmp_path / "command"
    done = lungwatch("studies", "export-reviewed", "--out", out, "--json", **given)
    assert done.code == 0, done.stderr
    assert done.json["studies"] == 1
    assert done.json["left_out"] == [{"study": 1, "why": "its images are no longer in the spool"}]
    with site.database.reading() as session:
        tried, failed = list(audit.in_order(session))[-2:]
    assert (tried.outcome, failed.outcome) == (AuditOutcome.SUCCESS, AuditOutcome.MINOR_FAILURE)
    assert len(tried.detail["study_instance_uids"]) == 2
    assert len(failed.detail["study_instance_uids"]) == 1
    site.database.close()


def test_a_test_set_of_patient_ids_knows_the_patients_of_reviewed_data(site, tmp_path):
    data = learning.reviewed_data(site.settings, site.database)
    rows, _ = data.export(data.collect()[0], tmp_path / "out")
    write_manifest(tmp_path / "out" / "MANIFEST.csv", rows)
    seen = training_fingerprints(tmp_path / "out" / "MANIFEST.csv")
    any_file = tmp_path / "out" / "MANIFEST.csv"
    version = write_version(tmp_path / "models", "1.0.0", weights=any_file)
    seen.write(version.folder / TRAINING_DATA_FILE)
    figure = draw_manifest(tmp_path / "test" / "test.csv", count=1, patient="t")
    pictures = read_manifest(figure).rows
    named = zip(pictures, ("patient 1", "patient 77"), strict=True)
    write_manifest(figure, [replace(row, patient=name) for row, name in named])
    key = site.settings.pseudonym_key
    with pytest.raises(PromotionError, match="shares patients patient 1 with the training data"):
        open_test_set(figure, pseudonym_key=key).refuse_seen_by(version)
    assert "has seen patients patient 1 of" in open_test_set(figure, pseudonym_key=key).seen_by(
        version
    )
    absent = tmp_path / "absent.key"
    open_test_set(figure, pseudonym_key=absent).refuse_seen_by(version)
    assert not absent.exists(), "asking makes no key"
    rules = bootstrap.promotions(site.settings, site.database)._rules
    assert rules.pseudonym_key == key


def test_the_key_is_made_once_and_is_private(tmp_path):
    path = tmp_path / "data" / "key"
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(Pseudonyms(path).of("4711", "1.2")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert Pseudonyms(tmp_path / "other").of("4711", "1.2") != made[0]
    one, other = Pseudonyms(path).of("", "1.2"), Pseudonyms(path).of("", "1.3")
    assert one.patient != other.patient
    path.write_bytes(b"short")
    with pytest.raises(SettingsError, match="from a backup"):
        Pseudonyms(path)


def test_the_command_writes_a_manifest(site, tmp_path):
    settings = {"data_dir": site.settings.data_dir, **SMALL}
    out = tmp_path / "out"
    done = lungwatch("studies", "export-reviewed", "--out", out, "--json", **settings)
    assert done.code == 0, done.stderr
    assert done.json["studies"] == 4
    assert done.json["left_out"] == [{"study": 5, "why": "rejected as unusable"}]
    manifest = read_manifest(out / "MANIFEST.csv")
    assert [row.covid for row in manifest.rows] == [True, False, True, True]
    assert all((out / row.path).is_dir() for row in manifest.rows)


def test_without_reviews_there_is_nothing_to_write(tmp_path):
    installation, _ = screened(tmp_path)
    installation.database.close()
    done = lungwatch(
        *("studies", "export-reviewed", "--out", tmp_path / "out"),
        data_dir=installation.settings.data_dir,
    )
    assert done.code == 1
    assert "no reviewed study" in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_image_that_was_saved_anew_is_still_seen(tmp_path):
    trained_on = draw_manifest(tmp_path / "base" / "base.csv", split=None, count=2, patient="b")
    version = write_version(tmp_path / "models", "1.0.0", trained_on=trained_on)
    listed = read_fingerprints(version.folder / TRAINING_DATA_FILE)
    pixels = frozenset(sample.pixels for sample in load_samples(trained_on, 32))
    replace(listed, pixels=pixels).write(version.folder / TRAINING_DATA_FILE)
    figure = draw_manifest(tmp_path / "test" / "test.csv", count=2, patient="t")
    first, *others = read_manifest(figure).rows
    image = cv2.imread(str(trained_on.parent / read_manifest(trained_on).rows[0].path))
    cv2.imwrite(str(figure.parent / first.path), image, [cv2.IMWRITE_PNG_COMPRESSION, 0])
    write_manifest(figure, [replace(first, patient=""), *others])
    test_set = open_test_set(figure)
    assert test_set.seen_by(version) is None
    samples = test_set.load(32, read_training_slice)
    assert "has seen 1 images, from other files, of the test set" in test_set.seen_by(
        version, samples
    )
    assert test_set.seen_by(version, samples[1:]) is None
    assert test_set.unnamed.startswith("1 of 4 rows of the test set name no patient")
