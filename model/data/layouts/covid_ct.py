"""COVID-CT (Zhao et al. 2020, arXiv 2003.13865): class folders, split lists, patients."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from model.data.manifest import ManifestRow, Split
from model.data.pictures import FIGURE_SUFFIXES
from model.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCE = "covid-ct"
META = "COVID-CT-MetaInfo.csv"
# As published ("CT_COVID"), and as it is often unpacked into the folders of a split.
_CLASSES = {True: ("CT_COVID", "COVID"), False: ("CT_NonCOVID", "NonCOVID")}
_SPLITS = {
    "train": Split.TRAIN,
    "val": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "test": Split.TEST,
}


def read_covid_ct(folder: Path) -> list[ManifestRow]:
    """List the figures of COVID-CT, paths relative to the folder.

    Parameters
    ----------
    folder
        Either as published: ``CT_COVID`` and ``CT_NonCOVID`` (at any depth, since its archives
        unpack to ``Images-processed``), lists such as ``Data-split/COVID/trainCT_COVID.txt``, and
        `META` for the patients (save the published spreadsheet as CSV); or with a folder for each
        split: ``train``, ``val``, ``test``, each with ``COVID`` and ``NonCOVID``.

    Returns
    -------
    list of ManifestRow
        With the published split where there is one, else without; the list of patients covers the
        figures with COVID-19 only, so the other patients are unknown.

    Raises
    ------
    DatasetError
        If there is no figure of one of the classes, or the lists and the figures disagree.
    """
    rows: list[ManifestRow] = []
    splits, patients = _published_splits(folder), _patients(folder)
    seen: set[tuple[bool, str]] = set()
    for covid, names in _CLASSES.items():
        found = [path for home in _homes(folder, covid) for path in _figures(home)]
        if not found:
            raise DatasetError(
                f"{folder}: holds no folder {' or '.join(names)} with figures; is it COVID-CT?"
            )
        for path in found:
            split = _SPLITS.get(path.parent.parent.name)
            if splits:
                split = splits.get((covid, path.name))
                if split is None:
                    raise DatasetError(
                        f"{path}: is in none of the lists of {folder / 'Data-split'}; remove it or "
                        "add it to one"
                    )
                seen.add((covid, path.name))
            patient = patients.get(path.name, "") if covid else ""
            name = path.relative_to(folder).as_posix()
            rows.append(ManifestRow(name, covid, "", patient, SOURCE, split))
    for covid, name in splits.keys() - seen:
        listed = _CLASSES[covid][0]
        raise DatasetError(f"{folder}: {name} of {listed} is listed in Data-split, but not there")
    return rows


def _homes(folder: Path, covid: bool) -> list[Path]:  # noqa: FBT001 - a class, not a switch
    return sorted(
        path for path in folder.rglob("*")
        if path.is_dir() and path.name in _CLASSES[covid] and "Data-split" not in path.parts
    )  # fmt: skip


def _figures(home: Path) -> Iterator[Path]:
    return (path for path in sorted(home.iterdir()) if path.suffix.lower() in FIGURE_SUFFIXES)


def _published_splits(folder: Path) -> dict[tuple[bool, str], Split]:
    splits: dict[tuple[bool, str], Split] = {}
    for covid, names in _CLASSES.items():
        for word, split in _SPLITS.items():
            path = folder / "Data-split" / names[1] / f"{word}{names[0]}.txt"
            if not path.exists():
                continue
            for line in filter(None, (each.strip() for each in path.read_text().splitlines())):
                if splits.setdefault((covid, line), split) is not split:
                    raise DatasetError(f"{path}: {line} is in the list of another split too")
    return splits


def _patients(folder: Path) -> dict[str, str]:
    path = next(iter(sorted(folder.rglob(META))), None)
    if path is None:
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        if not {"file name", "patient id"} <= columns.keys():
            raise DatasetError(f"{path}: needs the columns File name and Patient ID")
        file_name, patient = columns["file name"], columns["patient id"]
        return {row[file_name].strip(): row[patient].strip() for row in reader}
