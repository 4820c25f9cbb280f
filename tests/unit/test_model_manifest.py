"""The manifest file: what it says, and what is refused by row and name."""

import pytest

from model.data.manifest import (
    LabelOrigin,
    ManifestRow,
    Split,
    merge,
    read_manifest,
    rebased,
    split_slice,
    write_manifest,
)
from model.errors import DatasetError

HEADER = "path,covid,mask,patient,source,split"


def _manifest(tmp_path, text, name="m.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_what_is_written_is_read(tmp_path):
    rows = (
        ManifestRow("a,1.png", covid=True, patient='"P" 1', source="s", split=Split.TEST),
        ManifestRow("b.png", covid=False, source="s", transposed=True),
        ManifestRow("v.nii.gz#3", mask="m.nii.gz#3", source="t", label_origin=LabelOrigin.PSEUDO),
    )
    path = tmp_path / "new" / "m.csv"
    write_manifest(path, rows)
    manifest = read_manifest(path)
    assert manifest.rows == rows
    assert [row.number for row in manifest.rows] == [2, 3, 4]
    assert path.read_text().splitlines()[0] == f"{HEADER},transposed,label_origin"
    write_manifest(path, rows[:1])
    assert path.read_text().splitlines()[0] == HEADER
    assert read_manifest(path).sha256 != manifest.sha256
    assert [each.name for each in path.parent.iterdir()] == ["m.csv"]


def test_a_manifest_of_nothing_is_not_written(tmp_path):
    with pytest.raises(DatasetError, match="no file to list"):
        write_manifest(tmp_path / "m.csv", [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing: path, covid, mask, patient, source, split"),
        ("path,label\na.png,COVID\n", "missing: covid, mask, .*lungwatch data import"),
        (f"{HEADER},age\na.png,1,,,s,,4\n", "unknown columns: age; remove"),
        (f"{HEADER},path\na.png,1,,,s,,a.png\n", "given twice: path"),
        (HEADER + "\n", "lists no file"),
        (HEADER + "\na.png,1,,,s\n", "row 2: has 5 cells, the header 6"),
        (HEADER + "\n,1,,,s,\n", "row 2: path is empty"),
        (HEADER + "\na.png,1,,,,\n", "row 2: source is empty"),
        (HEADER + "\na.png,COVID,,,s,\n", "row 2: covid is 'COVID'; allowed: 1, 0, nothing"),
        (HEADER + "\na.png,1,,,s,val\n", "row 2: split is 'val'; allowed: nothing, train, valid"),
        (HEADER + "\na.png,1,,,s,\nb.png,1,,,s,\na.png,0,,,s,\n", "row 4: a.png is .* in row 2"),
        (
            HEADER + "\na.png,1,,P1,s,train\nb.png,1,,P1,s,test\n",
            "row 3: b.png: patient P1 of s is in test, and in train by row 2; give one person one",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    with pytest.raises(DatasetError, match=rf"m\.csv.*{message}"):
        read_manifest(_manifest(tmp_path, text))


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"none\.csv: cannot be read"):
        read_manifest(tmp_path / "none.csv")
    (tmp_path / "m.csv").write_bytes(b"\x89PNG\r\n\xff\xfe")
    with pytest.raises(DatasetError, match="not UTF-8"):
        read_manifest(tmp_path / "m.csv")


def test_one_name_in_two_sources_is_two_patients(tmp_path):
    text = HEADER + "\na.png,1,,P1,s,train\nb.png,1,,P1,t,test\n"
    assert len(read_manifest(_manifest(tmp_path, text)).rows) == 2


def test_rows_move_with_their_folder(tmp_path):
    row = ManifestRow("d/a.png", mask="d/m.png", source="s")
    assert rebased(row, tmp_path / "x", tmp_path).path == "x/d/a.png"
    moved = rebased(row, tmp_path / "x", tmp_path / "y")
    assert (moved.path, moved.mask) == (f"{tmp_path}/x/d/a.png", f"{tmp_path}/x/d/m.png")
    assert rebased(moved, tmp_path / "y", tmp_path / "x") == row


def test_manifests_are_merged_unless_they_disagree(tmp_path):
    def manifest(name, rows):
        write_manifest(tmp_path / name, rows)
        return read_manifest(tmp_path / name)

    base = manifest("a/m.csv", [ManifestRow("1.png", patient="P", source="s", split=Split.TRAIN)])
    more = manifest("b/m.csv", [ManifestRow("1.png", patient="Q", source="s", split=Split.TEST)])
    rows = merge([base, more], tmp_path)
    assert [row.path for row in rows] == ["a/1.png", "b/1.png"]
    with pytest.raises(DatasetError, match=r"row 2: 1\.png is listed in .*a/m\.csv too"):
        merge([base, base], tmp_path)
    other = manifest("c/m.csv", [ManifestRow("1.png", patient="P", source="s", split=Split.TEST)])
    with pytest.raises(DatasetError, match=r"patient P of s is in several splits \(test, train\)"):
        merge([base, other], tmp_path)


def test_only_nifti_has_slices():
    assert split_slice("v.nii.gz#12") == ("v.nii.gz", 12)
    assert split_slice("v.nii#0") == ("v.nii", 0)
    assert split_slice("figure#12.png") == ("figure#12.png", None)
    assert split_slice("series#1") == ("series#1", None)
