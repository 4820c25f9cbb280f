"""The label that each review gives."""

import pytest

from worker.errors import ReviewError
from worker.judgement import Label, Lesions, RejectReason, accepted, corrected, rejected

DRAWN, NONE, UNKNOWN = Lesions


@pytest.mark.parametrize(
    ("label", "covid", "lesions", "teaches"),
    [
        (accepted(positive=True, has_lesions=True), True, DRAWN, True),
        (accepted(positive=False, has_lesions=False), False, NONE, True),
        (rejected(RejectReason.FALSE_POSITIVE, positive=True), False, NONE, True),
        (rejected(RejectReason.FALSE_NEGATIVE, positive=False), True, UNKNOWN, True),
        (rejected(RejectReason.WRONG_LESIONS, positive=True), True, UNKNOWN, True),
        (rejected(RejectReason.WRONG_LESIONS, positive=False), False, UNKNOWN, True),
        (rejected(RejectReason.UNUSABLE, positive=True), None, UNKNOWN, False),
        (corrected(positive=True, has_lesions=True), True, DRAWN, True),
        (corrected(positive=True, has_lesions=False), False, NONE, True),
        (corrected(positive=False, has_lesions=True), None, DRAWN, True),
        (corrected(positive=False, has_lesions=True, covid=True), True, DRAWN, True),
        (corrected(positive=True, has_lesions=True, covid=False), False, DRAWN, True),
    ],
)
def test_a_review_gives_its_label(label, covid, lesions, teaches):
    assert label == Label(covid, lesions)
    assert label.teaches is teaches


@pytest.mark.parametrize(
    ("reason", "positive"),
    [(RejectReason.FALSE_POSITIVE, False), (RejectReason.FALSE_NEGATIVE, True)],
)
def test_a_reason_that_contradicts_the_result_is_refused(reason, positive):
    with pytest.raises(ReviewError, match=f"{reason.value} contradicts"):
        rejected(reason, positive=positive)
