import pytest

from dicom_node.reasons import Reason
from worker.explanations import PROGRESS, REASONS, STATES, explain
from worker.lifecycle import Progress, StudyState


def test_every_state_is_explained():
    assert set(STATES) == set(StudyState)


def test_every_coded_reason_is_explained():
    assert set(PROGRESS) == set(Progress)
    assert set(REASONS) == set(Reason)


def test_no_code_means_two_things():
    assert {code.value for code in Progress} & {code.value for code in Reason} == set()


@pytest.mark.parametrize("code", [*Progress, *Reason])
def test_words_fit_a_table(code):
    explanation = explain(code.value)
    assert 0 < len(explanation.words) <= 60
    assert not explanation.words.endswith(".")


@pytest.mark.parametrize("code", [Progress.ATTEMPTS_EXHAUSTED, Progress.DELIVERY_REFUSED])
def test_what_failed_says_what_to_do(code):
    assert "requeue" in explain(code).remedy


def test_a_code_of_another_version_explains_itself():
    assert explain("sinister_omen").words == "sinister omen"
    assert explain(None).words == ""
