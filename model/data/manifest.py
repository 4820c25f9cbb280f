"""The list of the files that train and test: one CSV row for each, read strictly."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from model.errors import DatasetError
from model.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLUMNS = ("path", "covid", "mask", "patient", "source", "split")
OPTIONAL_COLUMNS = ("transposed", "cut_at_lungs", "label_origin")
_FIRST_ROW = 2  # as a spreadsheet numbers it: the header is row 1
_WAY_OUT = "`lungwatch data import` writes a manifest from the layouts it knows"


class Split(StrEnum):
    """Part of the data a patient belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class LabelOrigin(StrEnum):
    """Who said what a row shows: a person, or an earlier network."""

    HUMAN = "human"
    PSEUDO = "pseudo"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One file to train or test on.

    Attributes
    ----------
    path
        The file, relative to the manifest's folder or absolute; ``volume.nii.gz#7`` is slice 7 of
        a NIfTI volume, counted from 0; a folder is a DICOM series.
    covid
        Class, or None where it is unknown.
    mask
        The lesions, written like `path`, or empty.
    patient
        The same for all files of one person within the source; empty: unknown.
    source
        Name of the data set.
    split
        Part it belongs to, or None to have it fixed by hash.
    transposed
        Whether image and mask are stored with x and y swapped.
    cut_at_lungs
        Whether a figure was cut at the lungs by who published it, so that the network sees all of
        it; others are cropped to the lungs that are found in them.
    label_origin
        Who gave class and mask.
    number
        Row of the file it was read from, the header being 1; 0 where it was not read.
    """

    path: str
    covid: bool | None = None
    mask: str = ""
    patient: str = ""
    source: str = ""
    split: Split | None = None
    transposed: bool = False
    cut_at_lungs: bool = False
    label_origin: LabelOrigin = LabelOrigin.HUMAN
    number: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The rows of a manifest file.

    Attributes
    ----------
    path
        The manifest file.
    rows
        Its rows, in order.
    sha256
        Digest of the file, which names the data of a run.
    """

    path: Path
    rows: tuple[ManifestRow, ...]
    sha256: str

    @property
    def folder(self) -> Path:
        """Folder that relative paths start from."""
        return self.path.parent

    def file(self, name: str) -> Path:
        """Return the file or folder behind a path of a row, without its slice."""
        return self.folder / split_slice(name)[0]

    def error(self, row: ManifestRow, problem: str) -> DatasetError:
        """Return the error that names this row."""
        return DatasetError(f"{self.path}, row {row.number}: {problem}")


def split_slice(name: str) -> tuple[str, int | None]:
    """Part ``volume.nii.gz#7`` into the file and its slice; other paths have none."""
    path, hash_mark, index = name.rpartition("#")
    if hash_mark and path.endswith((".nii", ".nii.gz")) and index.isdecimal():
        return path, int(index)
    return name, None


def read_manifest(path: Path, *, check_patients: bool = True) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    path
        CSV file in UTF-8 with the columns `COLUMNS` and, if need be, `OPTIONAL_COLUMNS`.
    check_patients
        Whether a patient in two splits is an error; a check that reports all of them says no.

    Raises
    ------
    DatasetError
        If it cannot be read, a column is missing or unknown, a value is none of those allowed, a
        path is listed twice, or a patient is in two splits. The files themselves are not opened.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from error
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error as error:
        raise DatasetError(f"{path}: is no CSV file: {error}") from error
    columns = lines[0] if lines else []
    _check_columns(path, columns)
    if len(lines) < 2:
        raise DatasetError(f"{path}: lists no file; {_WAY_OUT}")
    rows = tuple(
        _row(path, columns, cells, number) for number, cells in enumerate(lines[1:], _FIRST_ROW)
    )
    manifest = Manifest(path, rows, hashlib.sha256(data).hexdigest())
    _check_paths(manifest)
    if check_patients:
        for rows_of_patient in leaking_patients(rows):
            raise _leak(manifest, rows_of_patient)
    return manifest


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest so that it is there whole or not at all.

    Parameters
    ----------
    path
        The file; its folder is made if need be.
    rows
        At least one row; optional columns are written where a row needs them.

    Raises
    ------
    DatasetError
        If there is no row: a manifest that lists nothing helps nobody.
    """
    rows = list(rows)
    if not rows:
        raise DatasetError(f"{path}: not written: there is no file to list")
    optional = [
        name
        for name, needed in zip(
            OPTIONAL_COLUMNS,
            (
                any(row.transposed for row in rows),
                any(row.cut_at_lungs for row in rows),
                any(row.label_origin is not LabelOrigin.HUMAN for row in rows),
            ),
            strict=True,
        )
        if needed
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *optional])
    for row in rows:
        cells = _cells(row)
        writer.writerow([cells[name] for name in (*COLUMNS, *optional)])
    write_text(path, text.getvalue())


def merge(manifests: Sequence[Manifest], folder: Path) -> tuple[ManifestRow, ...]:
    """Put several manifests together, with paths as they are seen from one folder.

    Parameters
    ----------
    manifests
        The manifests, in the order of the rows.
    folder
        Folder of the manifest that is to hold the rows.

    Raises
    ------
    DatasetError
        If a file is listed by two manifests, or a patient of a source is in two splits.
    """
    rows: list[ManifestRow] = []
    homes: dict[str, Path] = {}
    for manifest in manifests:
        for row in manifest.rows:
            moved = rebased(row, manifest.folder, folder)
            if moved.path in homes:
                raise manifest.error(row, f"{row.path} is listed in {homes[moved.path]} too")
            homes[moved.path] = manifest.path
            rows.append(moved)
    for group in leaking_patients(rows):
        splits = ", ".join(sorted({str(row.split) for row in group}))
        raise DatasetError(
            f"patient {group[0].patient} of {group[0].source} is in several splits ({splits}) of "
            f"{', '.join(str(manifest.path) for manifest in manifests)}; give one person one split"
        )
    return tuple(rows)


def rebased(row: ManifestRow, old: Path, new: Path) -> ManifestRow:
    """Return a row whose paths start from another folder; what is not below it is absolute."""

    def moved(name: str) -> str:
        path = Path(os.path.abspath(old / name))  # noqa: PTH100 - links are kept as they are
        base = Path(os.path.abspath(new))  # noqa: PTH100
        return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()

    return replace(row, path=moved(row.path), mask=moved(row.mask) if row.mask else "")


def leaking_patients(rows: Iterable[ManifestRow]) -> list[tuple[ManifestRow, ...]]:
    """Return the rows of each patient that is put into several splits; names count by source."""
    patients: dict[tuple[str, str], list[ManifestRow]] = {}
    for row in rows:
        if row.patient and row.split:
            patients.setdefault((row.source, row.patient), []).append(row)
    return [tuple(group) for group in patients.values() if len({row.split for row in group}) > 1]


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise DatasetError(
            f"{path}: needs the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}. "
            f"{_WAY_OUT}"
        )
    unknown = [name for name in columns if name not in (*COLUMNS, *OPTIONAL_COLUMNS)]
    if unknown:
        raise DatasetError(
            f"{path}: unknown columns: {', '.join(name or '(no name)' for name in unknown)}; "
            f"remove them (optional are {', '.join(OPTIONAL_COLUMNS)})"
        )
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise DatasetError(f"{path}: columns given twice: {', '.join(twice)}; keep one of each")


def _row(path: Path, columns: Sequence[str], cells: Sequence[str], number: int) -> ManifestRow:
    where = f"{path}, row {number}"
    if len(cells) != len(columns):
        raise DatasetError(
            f"{where}: has {len(cells)} cells, the header {len(columns)}; quote cells with commas"
        )
    values = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    for name in ("path", "source"):
        if not values[name]:
            raise DatasetError(f"{where}: {name} is empty; give one")

    def choice(name: str, allowed: dict[str, object]) -> object:
        value = values.get(name, "")
        if value not in allowed:
            listed = ", ".join(word or "nothing" for word in allowed)
            raise DatasetError(f"{where}: {name} is {value!r}; allowed: {listed}")
        return allowed[value]

    covid = choice("covid", {"1": True, "0": False, "": None})
    split = choice("split", {"": None} | {each.value: each for each in Split})
    transposed = choice("transposed", {"": False, "0": False, "1": True})
    cut_at_lungs = choice("cut_at_lungs", {"": False, "0": False, "1": True})
    origins: dict[str, object] = {"": LabelOrigin.HUMAN}
    origin = choice("label_origin", origins | {each.value: each for each in LabelOrigin})
    return ManifestRow(
        path=values["path"],
        covid=None if covid is None else bool(covid),
        mask=values["mask"],
        patient=values["patient"],
        source=values["source"],
        split=None if split is None else Split(str(split)),
        transposed=bool(transposed),
        cut_at_lungs=bool(cut_at_lungs),
        label_origin=LabelOrigin(str(origin)),
        number=number,
    )


def _cells(row: ManifestRow) -> dict[str, str]:
    return {
        "path": row.path,
        "covid": "" if row.covid is None else str(int(row.covid)),
        "mask": row.mask,
        "patient": row.patient,
        "source": row.source,
        "split": row.split or "",
        "transposed": str(int(row.transposed)),
        "cut_at_lungs": str(int(row.cut_at_lungs)),
        "label_origin": row.label_origin,
    }


def _check_paths(manifest: Manifest) -> None:
    first: dict[str, int] = {}
    for row in manifest.rows:
        if row.path in first:
            raise manifest.error(
                row, f"{row.path} is listed in row {first[row.path]} already; keep one of them"
            )
        first[row.path] = row.number


def _leak(manifest: Manifest, rows: Sequence[ManifestRow]) -> DatasetError:
    first = rows[0]
    other = next(row for row in rows if row.split is not first.split)
    return manifest.error(
        other,
        f"{other.path}: patient {other.patient} of {other.source} is in {other.split}, and in "
        f"{first.split} by row {first.number}; give one person one split "
        "(`lungwatch data check` lists all)",
    )
