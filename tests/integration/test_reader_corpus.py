"""Every study of the corpus is read right, or refused with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.ct_corpus import LIDC, expected_volume, judge, problem_of
from support.ct_corpus_handled import HANDLED
from support.ct_corpus_refused import REFUSED

if TYPE_CHECKING:
    from support.ct_corpus import Case

CORPUS = (*REFUSED, *HANDLED)


def test_the_corpus_has_no_case_twice():
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name.replace(" ", "-"))
def test_the_study_is_read_right_or_refused_for_its_reason(case: Case, data_dir, tmp_path):
    verdict = judge(case.write(data_dir, tmp_path))
    assert problem_of(case, verdict, data_dir) == ""


def test_padding_becomes_air_and_nothing_else_changes(data_dir, tmp_path):
    (case,) = (case for case in HANDLED if "padding of" in case.name)
    expected = expected_volume(data_dir, LIDC)
    expected[:, :8, :8] = -1024
    volume = judge(case.write(data_dir, tmp_path)).series.volume
    assert np.array_equal(volume.hounsfield, expected)
