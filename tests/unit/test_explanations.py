import pytest

from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason
from worker.explanations import EDGE_REASONS, PROGRESS, REASONS, STATES, explain
from worker.lifecycle import Progress, StudyState


def test_every_state_is_explained():
    assert set(STATES) == set(StudyState)


def test_every_coded_reason_is_explained():
    assert set(PROGRESS) == set(Progress)
    assert set(REASONS) == set(Reason)
    assert set(EDGE_REASONS) == set(EdgeReason)


def test_no_code_means_two_things():
    codes = [code.value for code in [*Progress, *Reason, *EdgeReason]]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("code", [*Progress, *Reason, *EdgeReason])
def test_words_fit_a_table(code):
    explanation = explain(code.value)
    assert 0 < len(explanation.words) <= 60
    assert not explanation.words.endswith(".")


@pytest.mark.parametrize("code", [Progress.ATTEMPTS_EXHAUSTED, Progress.DELIVERY_REFUSED])
def test_what_failed_says_what_to_do(code):
    assert "requeue" in explain(code).remedy


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        (Reason.TOO_FEW_SLICES, "LUNGWATCH_MINIMUM_SLICES"),
        (Reason.NOT_CHEST, "LUNGWATCH_MINIMUM_COVERAGE_MM"),
    ],
)
def test_each_limit_is_named_by_the_reason_it_leads_to(reason, setting):
    assert {word.strip(".") for word in explain(reason).remedy.split() if "LUNGW" in word} == {
        setting
    }


def test_a_code_of_another_version_explains_itself():
    assert explain("sinister_omen").words == "sinister omen"
    assert explain(None).words == ""
