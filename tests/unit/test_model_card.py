"""The model card says of series what is true of the data."""

import numpy as np
import pytest

from model.data.dataset import Sample, Split
from model.model_card import _composed_why, _series_note


def _sample(path, source="pacs"):
    return Sample(path, source, Split.TRAIN, "p", None, np.zeros((2, 2), np.float32))


def test_data_without_series_are_called_so():
    samples = [_sample("a.png"), _sample("fig#b.png"), _sample("slice.dcm")]
    assert "no whole series took part" in _series_note(samples)
    assert "the data hold no whole" in _composed_why(samples)


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([_sample("s1#0"), _sample("s1#7"), _sample("s2#1"), _sample("a.png")], "3 of the 4"),
        ([_sample("studies/x", "reviewed"), _sample("v.nii.gz#3")], "2 of the 2"),
    ],
)
def test_slices_of_series_are_counted(samples, said):
    note = _series_note(samples)
    assert note.startswith(f"{said} images are slices of 2 series")
    assert "no whole" not in note + _composed_why(samples)
