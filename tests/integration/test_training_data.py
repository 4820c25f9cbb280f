"""The real training data through the reader of the command line: splits and what is left alone."""

import numpy as np
import pytest
from support.training_data import import_development

from model.data.dataset import Split, load_samples
from worker.training.slices import read_training_slice

SOURCES = {"covid-ct", "covid-semiseg", "luna-noncovid", "tcga-luad-slices"}


@pytest.fixture(scope="module")
def samples(data_dir, tmp_path_factory):
    manifest = import_development(data_dir, tmp_path_factory.mktemp("manifest"))
    return load_samples(manifest, 64, read_training_slice)


def test_no_patient_is_in_both_splits(samples):
    patients = {
        split: {sample.patient for sample in samples if sample.split is split} for split in Split
    }
    assert not patients[Split.TRAIN] & patients[Split.VALIDATION]
    assert not patients[Split.TEST]


def test_nothing_kept_for_checking_trains(samples, data_dir):
    assert {sample.source for sample in samples} == SOURCES
    folders = {sample.path.removeprefix(f"{data_dir}/").split("/")[0] for sample in samples}
    assert folders == SOURCES


def test_every_figure_is_used_and_both_splits_hold_both_labels(samples):
    def count(source, split):
        return sum(sample.source == source and sample.split is split for sample in samples)

    assert count("covid-ct", Split.TRAIN) == 423
    assert count("covid-ct", Split.VALIDATION) == 118
    # As they were when the first network was trained: its figures stay comparable.
    assert (count("luna-noncovid", Split.TRAIN), count("luna-noncovid", Split.VALIDATION)) == (
        128,
        37,
    )
    assert count("covid-semiseg", Split.VALIDATION) == 13
    for split in (Split.TRAIN, Split.VALIDATION):
        masked = [sample for sample in samples if sample.mask is not None and sample.split is split]
        assert len(masked) >= 9
        assert all(sample.mask.any() for sample in masked)


def test_lesions_lie_upright_in_the_lungs(samples):
    masked = [sample for sample in samples if sample.mask is not None]
    # COVID-19 prefers the back of the lungs, which is below in radiological orientation.
    rows = [np.argwhere(sample.mask)[:, 0].mean() for sample in masked]
    assert np.mean(rows) > 34


def test_abdominal_slices_are_left_out(samples):
    tcga = [sample for sample in samples if sample.source == "tcga-luad-slices"]
    assert 15 <= len(tcga) < 27
    assert all(sample.hounsfield for sample in tcga)
