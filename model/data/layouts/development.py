"""The folder of public data that Lungwatch is developed on, by the list in its own MANIFEST.csv."""

from __future__ import annotations

import csv
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from model.data.manifest import ManifestRow, Split
from model.data.pictures import FIGURE_SUFFIXES, read_figure
from model.data.splits import hashed_split, near_duplicate_groups, thumbnail
from model.errors import DatasetError
from model.preprocessing import figure_to_unit

if TYPE_CHECKING:
    from pathlib import Path

LIST = "MANIFEST.csv"
COVID_CT = "covid-ct"
SEMISEG = "covid-semiseg"
# All of one class, split by patient. Whatever else the folder holds, whole series above all, is
# kept for checking and becomes no row.
NON_COVID = ("luna-noncovid", "tcga-luad-slices")
_SUFFIXES = (*FIGURE_SUFFIXES, ".dcm")


def read_development(folder: Path) -> list[ManifestRow]:
    """List what may train of the development data, paths relative to the folder.

    Parameters
    ----------
    folder
        Folder with a `LIST` of the columns path, label and patient.

    Returns
    -------
    list of ManifestRow
        Every row has its split: COVID-CT its authors', of LUNA16 and TCGA-LUAD a fifth of the
        patients by hash, of SemiSeg, which names no patients, a fifth of the clusters of near
        duplicates.

    Raises
    ------
    DatasetError
        If the list cannot be read, lists nothing that trains, or a SemiSeg image cannot be read.
    """
    rows: list[ManifestRow] = []
    semiseg: list[str] = []
    for entry in _entries(folder / LIST):
        path, patient = entry["path"], entry["patient"]
        source, _, rest = path.partition("/")
        if not rest.endswith(_SUFFIXES):
            continue
        if source == SEMISEG and "/img/" in path:
            semiseg.append(path)
        elif source == COVID_CT:
            split = Split.VALIDATION if "/val/" in path else Split.TRAIN
            covid = entry["label"] == "COVID"
            rows.append(ManifestRow(path, covid, "", patient, source, split))
        elif source in NON_COVID:
            split = hashed_split(patient or path)
            rows.append(ManifestRow(path, covid=False, patient=patient, source=source, split=split))
    rows += _semiseg_rows(folder, semiseg)
    if not rows:
        raise DatasetError(f"{folder / LIST}: lists no file of the data sets that train")
    return rows


def _entries(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            entries = list(csv.DictReader(file))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error
    if not entries or not {"path", "label", "patient"} <= entries[0].keys():
        raise DatasetError(f"{path}: needs the columns path, label and patient")
    return entries


def _semiseg_rows(folder: Path, paths: list[str]) -> list[ManifestRow]:
    """Split by cluster; image and mask are stored with x and y swapped."""
    images = [thumbnail(figure_to_unit(np.ascontiguousarray(read_figure(folder / path).T)))
              for path in paths]  # fmt: skip
    groups = near_duplicate_groups(images)
    rows = []
    for path, group in zip(paths, groups, strict=True):
        # The cluster's first member names it, so that the split does not hang on the file order.
        key = min(paths[i] for i, other in enumerate(groups) if other == group)
        image = PurePosixPath(path)
        mask = image.parent.parent / "mask" / f"{image.stem}.png"
        rows.append(
            ManifestRow(
                path=path,
                covid=True,
                mask=str(mask),
                source=SEMISEG,
                split=hashed_split(key),
                transposed=True,
                cut_at_lungs=True,
            )
        )
    return rows
