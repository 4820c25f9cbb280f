"""OHIF in a real browser shows the results of a real study, voxel for voxel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.ohif import open_browser, serve_ohif
from support.ohif_page import OhifPage
from support.synthetic_result import (
    THREE_LESIONS,
    context_of,
    predict,
    read_single_frame_series,
)

from dicom_node.objects.results import encode_result
from worker.embedded.orthanc import ThrowAwayOrthanc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Prediction

_ARTIFACTS = Path(__file__).resolve().parents[2] / "test-artifacts"


@pytest.fixture(scope="module")
def series(data_dir: Path) -> CtSeries:
    return read_single_frame_series(data_dir / "series/lung_dx-A0001-s3")


@pytest.fixture(scope="module")
def prediction(series: CtSeries) -> Prediction:
    return predict(series, THREE_LESIONS)


@pytest.fixture(scope="module")
def viewer(
    series: CtSeries,
    prediction: Prediction,
    data_dir: Path,
    require_orthanc: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """OHIF in front of an Orthanc that holds the study and its results."""
    folder = tmp_path_factory.mktemp("viewer")
    with ThrowAwayOrthanc(folder / "orthanc") as orthanc, serve_ohif(orthanc.http_port) as root:
        for path in sorted((data_dir / "series/lung_dx-A0001-s3").glob("*.dcm")):
            orthanc.upload(path)
        for each in encode_result(series, prediction, context_of(series)):
            path = folder / f"{each.kind}.dcm"
            path.write_bytes(each.data)
            orthanc.upload(path)
        yield root


def test_segmentation_is_shown_voxel_for_voxel(
    viewer: str, series: CtSeries, prediction: Prediction
) -> None:
    with open_browser() as browser:
        page = OhifPage(browser, viewer, series.study_instance_uid, series=4)
        page.open_segmentation()
        labels = page.segment_labels()
        page.jump_to_segment(labels[0])
        browser.keep_screenshot(_ARTIFACTS / "ohif-segmentation.png")

        assert len(labels) == len(prediction.findings)
        assert page.voxel_counts() == {
            finding.segment_number: finding.voxel_count for finding in prediction.findings
        }
        assert page.labelled_pixels() == _true_pixels(series, prediction)
        assert browser.problems == []


def test_report_opens_on_its_image_with_its_figures(viewer: str, series: CtSeries) -> None:
    with open_browser() as browser:
        page = OhifPage(browser, viewer, series.study_instance_uid, series=4)
        page.open_report()
        browser.keep_screenshot(_ARTIFACTS / "ohif-report.png")

        measurements = page.measurements()
        assert sum("lesion" in identifier for identifier in measurements) == 3
        assert all(measurements.values()), f"not on an image: {measurements}"
        assert "87.00 %" in page.drawn_text()
        assert browser.problems == []


def _true_pixels(series: CtSeries, prediction: Prediction) -> dict[str, dict[int, int]]:
    pixels = {}
    for reference, labels in zip(series.slices, prediction.lesion_mask.labels, strict=True):
        flat = labels.ravel()
        pixels[reference.sop_instance_uid] = {
            int(index): int(flat[index]) for index in np.flatnonzero(flat)
        }
    return pixels
