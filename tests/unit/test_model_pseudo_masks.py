"""Pseudo-masks: drawn where they may be, kept where they can be trusted, and always flagged."""

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from model.data.dataset import load_samples
from model.data.manifest import LabelOrigin, ManifestRow, Split, read_manifest, write_manifest
from model.errors import DatasetError
from model.evaluation.slice_model import BatchOutput
from model.training.pseudo_masks import draw_pseudo_masks


@dataclass
class Bright:
    """Calls whatever is bright a lesion."""

    title: str = "bright"

    def run(self, images):
        return BatchOutput(None, images.astype(np.float32))


class Classifier:
    title = "classifier"

    def run(self, images):
        return BatchOutput(np.zeros(len(images), np.float32), None)


@pytest.fixture
def manifest(tmp_path):
    figure = np.zeros((90, 120), np.uint8)
    figure[30:60, 10:40] = 255
    figure[5, 100] = 255  # a speck
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"{name}.png"), figure)
    cv2.imwrite(str(tmp_path / "dark.png"), figure // 255)  # nothing of it is bright
    cv2.imwrite(str(tmp_path / "mask.png"), figure)
    row = {"source": "s", "cut_at_lungs": True}
    rows = [
        ManifestRow("a.png", covid=True, split=Split.TRAIN, **row),
        ManifestRow("b.png", covid=True, split=Split.VALIDATION, **row),
        ManifestRow("c.png", covid=False, split=Split.TRAIN, **row),
        ManifestRow("d.png", covid=True, split=Split.TRAIN, mask="mask.png", **row),
        ManifestRow("dark.png", covid=True, split=Split.TRAIN, **row),
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    return read_manifest(tmp_path / "manifest.csv")


def test_only_undrawn_training_figures_with_covid_get_a_mask(manifest, tmp_path):
    home = tmp_path / "elsewhere"
    rows = draw_pseudo_masks(manifest, [Bright()], 64, home / "masks", home)
    pseudo = [row.path for row in rows if row.label_origin is LabelOrigin.PSEUDO]
    assert pseudo == [str(tmp_path / "a.png")]
    write_manifest(home / "manifest.csv", rows)
    drawn = {s.path.split("/")[-1]: s for s in load_samples(home / "manifest.csv", 64)}
    assert drawn["a.png"].mask.sum() == pytest.approx(64 * 64 * 900 / 10800, rel=0.15)
    assert drawn["a.png"].mask[:, 44:].sum() == 0  # without the speck, and not mirrored
    assert drawn["dark.png"].mask is None
    assert drawn["d.png"].label_origin is LabelOrigin.HUMAN
    assert load_samples(home / "manifest.csv", 64, human_only=True)[0].path.endswith("b.png")


def test_a_model_without_lesions_and_a_manifest_without_need_are_named(manifest, tmp_path):
    with pytest.raises(DatasetError, match="classifier draws no lesions"):
        draw_pseudo_masks(manifest, [Classifier()], 64, tmp_path / "masks", tmp_path)
    write_manifest(tmp_path / "none.csv", [ManifestRow("c.png", covid=False, source="s")])
    with pytest.raises(DatasetError, match="no figure with COVID-19"):
        draw_pseudo_masks(
            read_manifest(tmp_path / "none.csv"), [Bright()], 64, tmp_path / "masks", tmp_path
        )
