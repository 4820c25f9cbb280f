"""What a network has seen, and that a test set is found in it."""

from dataclasses import replace
from hashlib import sha256

import pytest

from model.data.fingerprints import (
    Fingerprints,
    file_digests,
    read_fingerprints,
    training_fingerprints,
)
from model.data.manifest import ManifestRow, Split, write_manifest
from model.errors import DatasetError, RegistryError


def row(path, patient="", split=None, source="here"):
    return ManifestRow(path, patient=patient, source=source, split=split)


@pytest.fixture
def manifest(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(name.encode())
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    (series / "2.dcm").write_bytes(b"two")
    path = tmp_path / "manifest.csv"
    rows = [
        row("a.png", "Ann", Split.TRAIN),
        row("b.png", "Bob", Split.VALIDATION),
        row("c.png", "Cid", Split.TEST),
        row("series"),
    ]
    write_manifest(path, rows)
    return path


def test_all_that_trains_or_chooses_counts_what_tests_does_not(manifest, tmp_path):
    seen = training_fingerprints(manifest)
    assert (len(seen.patients), len(seen.files)) == (2, 4)
    only_test = tmp_path / "test.csv"
    write_manifest(only_test, [row("c.png", "Cid", Split.TRAIN)])
    other = training_fingerprints(only_test)
    assert not seen.files & other.files
    assert not seen.patients & other.patients
    assert len((seen | other).files) == 5


def test_a_patient_is_the_same_under_another_source_and_a_file_under_another_name(
    manifest, tmp_path
):
    (tmp_path / "renamed.png").write_bytes(b"a.png")
    path = tmp_path / "other.csv"
    write_manifest(path, [row("renamed.png", "Bob", source="elsewhere")])
    seen, other = training_fingerprints(manifest), training_fingerprints(path)
    assert other.files <= seen.files
    assert other.patients <= seen.patients


def test_they_round_trip_without_naming_anybody(manifest, tmp_path):
    seen, path = training_fingerprints(manifest), tmp_path / "training_data.json"
    seen = replace(seen, pixels=frozenset("p"))
    seen.write(path)
    assert read_fingerprints(path) == seen | seen
    assert "Ann" not in path.read_text()
    assert read_fingerprints(tmp_path / "absent.json") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "patients": []}'])
def test_what_is_no_list_is_refused_by_name(tmp_path, text):
    path = tmp_path / "training_data.json"
    path.write_text(text)
    with pytest.raises(RegistryError, match=r"training_data\.json"):
        read_fingerprints(path)


def test_a_file_that_is_gone_is_named(manifest):
    (manifest.parent / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"a\.png.*cannot be read"):
        training_fingerprints(manifest)


def test_files_of_a_series_count_also_in_folders_of_its_own(manifest):
    series = manifest.parent / "series"
    flat = [sha256(content).hexdigest() for content in (b"one", b"two")]
    assert file_digests(series) == flat, "locked test sets rely on these"
    for name, content in (("1.dcm", b"three"), ("a.dcm", b"four")):
        (series / "10").mkdir(exist_ok=True)
        (series / "10" / name).write_bytes(content)
    below = [sha256(content).hexdigest() for content in (b"three", b"four")]
    assert file_digests(series) == [flat[0], *below, flat[1]]
    assert set(below) <= training_fingerprints(manifest).files


def test_nothing_seen_is_told_apart_from_not_told(tmp_path):
    path = tmp_path / "training_data.json"
    Fingerprints(frozenset(), frozenset()).write(path)
    assert read_fingerprints(path) == Fingerprints(frozenset(), frozenset())
