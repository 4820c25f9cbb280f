"""The layouts of `lungwatch data import`: DICOM by way of the edge, the others are the model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydicom
from pydicom.uid import SegmentationStorage

from dicom_node.reading.reader import read_headers
from model.data.layouts.covid_ct import read_covid_ct
from model.data.layouts.development import read_development
from model.data.layouts.hundred_slices import read_hundred_slices
from model.data.manifest import ManifestRow, rebased
from model.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_node.reading.header import InstanceHeader

    Instances = list[tuple[Path, InstanceHeader]]

DICOM_SOURCE = "dicom"


def read_dicom(folder: Path) -> list[ManifestRow]:
    """List the CT images below a folder: a folder that holds one series and no more is one row.

    Parameters
    ----------
    folder
        Any tree of DICOM files.

    Returns
    -------
    list of ManifestRow
        Paths relative to the folder, class unknown, patient as in Patient ID. Single images, and
        those of folders that mix series, are rows of their own. A DICOM SEG below the folder that
        refers to a series is its mask.

    Raises
    ------
    DatasetError
        If there is no CT image, or two segmentations refer to one series.
    """
    content = read_headers([folder])
    images: Instances = []
    masks: dict[str, Path] = {}
    for path, header in content.instances:
        if header.modality == "CT":
            images.append((path, header))
        elif header.sop_class_uid == SegmentationStorage:
            for series in _segmented_series(path):
                if series in masks:
                    raise DatasetError(
                        f"{path} and {masks[series]} both segment series {series}; keep one"
                    )
                masks[series] = path
    if not images:
        raise DatasetError(f"{folder}: holds no CT image that can be read")
    homes: dict[Path, Instances] = {}
    for path, header in images:
        homes.setdefault(path.parent, []).append((path, header))
    rows: list[ManifestRow] = []
    for home, held in homes.items():
        series_uids = {header.series_instance_uid for _, header in held}
        deeper = any(home in other.parents for other in homes)
        alone = len(series_uids) == 1 and len(held) > 1 and not deeper
        for path, header in held[:1] if alone else held:
            mask = masks.get(header.series_instance_uid)
            rows.append(
                ManifestRow(
                    path=str((home if alone else path).absolute()),
                    mask=str(mask.absolute()) if mask else "",
                    patient=header.patient_id,
                    source=DICOM_SOURCE,
                )
            )
    return [rebased(row, folder, folder) for row in rows]


def _segmented_series(path: Path) -> list[str]:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    references = dataset.get("ReferencedSeriesSequence") or ()
    return [str(item.get("SeriesInstanceUID", "")) for item in references]


LAYOUTS: dict[str, Callable[[Path], list[ManifestRow]]] = {
    "covid-ct": read_covid_ct,
    "hundred-slices": read_hundred_slices,
    "dicom": read_dicom,
    "development": read_development,
}
