"""The real training data through the reader of the command line: splits and what is left alone."""

import numpy as np
import pytest

from model.data.dataset import Source, Split, load_samples
from worker.training_slices import read_training_slice


@pytest.fixture(scope="module")
def samples(data_dir):
    return load_samples(data_dir / "MANIFEST.csv", 64, read_training_slice)


def test_no_patient_is_in_both_splits(samples):
    patients = {
        split: {sample.patient for sample in samples if sample.split is split} for split in Split
    }
    assert not patients[Split.TRAIN] & patients[Split.VALIDATION]


def test_nothing_kept_for_checking_trains(samples):
    assert {sample.path.split("/")[0] for sample in samples} == {source.value for source in Source}


def test_every_figure_is_used_and_both_splits_hold_both_labels(samples):
    def count(source, split):
        return sum(sample.source is source and sample.split is split for sample in samples)

    assert count(Source.COVID_CT, Split.TRAIN) == 423
    assert count(Source.COVID_CT, Split.VALIDATION) == 118
    assert count(Source.LUNA, Split.TRAIN) + count(Source.LUNA, Split.VALIDATION) == 165
    for split in Split:
        masked = [sample for sample in samples if sample.mask is not None and sample.split is split]
        assert len(masked) >= 9
        assert all(sample.mask.any() for sample in masked)


def test_lesions_lie_upright_in_the_lungs(samples):
    masked = [sample for sample in samples if sample.mask is not None]
    # COVID-19 prefers the back of the lungs, which is below in radiological orientation.
    rows = [np.argwhere(sample.mask)[:, 0].mean() for sample in masked]
    assert np.mean(rows) > 34


def test_abdominal_slices_are_left_out(samples):
    assert 15 <= sum(sample.source is Source.TCGA for sample in samples) < 27
