"""A real CT file cut at every element and within each: a coded reason, never a silent result."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread

from dicom_node.errors import RefusedError
from dicom_node.reading.header import read_header
from dicom_node.reading.reader import read_ct_series
from dicom_node.reading.series import select_series
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

# What a cut may be refused as: what is gone, or what is left.
CUT = {
    Reason.NOT_DICOM,
    Reason.MISSING_ATTRIBUTES,
    Reason.MISSING_GEOMETRY,
    Reason.MISSING_RESCALE,
    Reason.MIXED_ORIENTATIONS,
    Reason.SHORT_PIXEL_DATA,
    Reason.UNDECODABLE_PIXELS,
    Reason.UNSUPPORTED_TRANSFER_SYNTAX,
}


def cuts(path: Path) -> list[int]:
    """Give a length for each place: after a tag, within a value, and at its end."""
    dataset = dcmread(path)
    lengths = {0, 64, 130, 131, 132}
    for found in (*dataset.file_meta, *dataset):
        raw = dataset.file_meta.get_item(found.tag) or dataset.get_item(found.tag)
        begin = found.file_tell
        size = len(raw.value) if isinstance(raw.value, bytes) else 8
        lengths |= {begin - 4, begin + size // 2, begin + size}
    return sorted(length for length in lengths if length < path.stat().st_size)


@pytest.mark.parametrize("series", ["lung_dx-A0001-s3", "covidctmd-P001"])
def test_a_file_cut_at_or_within_any_element_is_refused(data_dir, tmp_path, series):
    first, second = sorted((data_dir / "series" / series).glob("*.dcm"))[:2]
    path = tmp_path / "cut.dcm"
    shutil.copy(first, path)
    found: Counter[Reason] = Counter()
    # From the end to the beginning, so that each cut is one more.
    for length in reversed(cuts(first)):
        os.truncate(path, length)
        reason = reason_of(path, second)
        assert reason in CUT, length
        found[reason] += 1
    assert found.total() > 150
    assert {Reason.MISSING_ATTRIBUTES, Reason.SHORT_PIXEL_DATA} <= set(found)


def reason_of(path: Path, other: Path) -> Reason | None:
    """Give the reason why a cut instance is refused: by itself, or with the series it claims."""
    try:
        header = read_header(path)
    except RefusedError as error:
        return error.reason
    assert header.pixel_data_complete is False
    assert select_series([header]).chosen is None
    with pytest.raises(RefusedError) as refused:
        read_ct_series([path, other])
    return refused.value.reason
