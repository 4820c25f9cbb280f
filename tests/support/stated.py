"""Screened studies whose results are stated, not computed: for what comes after a screening."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from highdicom.seg import Segmentation, SegmentDescription
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from support.installation import Installation
from support.small_ct import write_small_ct
from support.synthetic_result import MODEL, TINY_LESIONS, predict

from dicom_node.objects.common_attributes import encode_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from support.synthetic_result import Ellipsoid

# The series of `small_ct` is short.
SMALL = {"minimum_slices": 12, "minimum_coverage_mm": 50}
LESION = (
    Code("49755003", "SCT", "Morphologically Altered Structure"),
    Code("52988006", "SCT", "L"),
)


class StatedPredictor:
    """Says of every volume what it was told to say."""

    model_version = MODEL

    def __init__(
        self, lesions: tuple[Ellipsoid, ...] = TINY_LESIONS, probability: float = 0.87
    ) -> None:
        self._lesions = lesions
        self._probability = probability

    def pipeline_digest(self) -> str:
        return f"{self._probability} {self._lesions}"

    def predict(self, volume, progress):
        subject = SimpleNamespace(volume=volume)
        return predict(subject, self._lesions, probability=self._probability)


def screened(
    folder: Path, predictor: StatedPredictor | None = None, study: str = "study"
) -> tuple[Installation, list[Path]]:
    """An installation with one screened study, and that study's files."""
    files = write_small_ct(folder / "ct", study)
    installation = Installation(folder / "data", **SMALL)
    installation.receive(files)
    installation.screen(predictor or StatedPredictor())
    return installation, files


def draw(path: Path, files: Sequence[Path], mask: np.ndarray) -> Path:
    """Write a mask as the segmentation of another program; an empty one keeps its frames."""
    dataset = Segmentation(
        [dcmread(file) for file in files],
        mask.astype("uint8"),
        "BINARY",
        [SegmentDescription(1, "drawn", *LESION, "MANUAL")],
        *(generate_uid(), 1, generate_uid(), 1, "Other", "Model", "1", "1"),
        omit_empty_frames=False,
    )
    path.write_bytes(encode_file(dataset))
    return path
