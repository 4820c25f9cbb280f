"""The state machine: what may happen when, and that no study can get stuck."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import TransitionError
from worker.lifecycle import (
    AT_REST,
    ScreeningState,
    StudyEvent,
    StudyState,
    advance,
    resume,
)

ORDINARY = [
    (StudyEvent.CT_RECEIVED, StudyState.RECEIVING),
    (StudyEvent.SERIES_CHOSEN, StudyState.QUEUED),
    (StudyEvent.CLAIMED, StudyState.SCREENING),
    (StudyEvent.SCREENED, StudyState.DELIVERING),
    (StudyEvent.DELIVERED, StudyState.COMPLETED),
]


def test_a_study_goes_its_ordinary_way():
    state = StudyState.IGNORED
    for event, expected in ORDINARY:
        state = advance(state, event)
        assert state is expected


@given(st.sampled_from(StudyState))
def test_new_ct_always_takes_a_study_back_to_receiving(state):
    assert advance(state, StudyEvent.CT_RECEIVED) is StudyState.RECEIVING


def test_an_impossible_event_is_refused_by_name():
    with pytest.raises(TransitionError, match="completed cannot take claimed"):
        advance(StudyState.COMPLETED, StudyEvent.CLAIMED)


@pytest.mark.parametrize("state", [StudyState.COMPLETED, StudyState.FAILED])
def test_what_a_destination_does_not_keep_is_delivered_again(state):
    assert advance(state, StudyEvent.NOT_COMMITTED) is StudyState.DELIVERING


@given(st.sampled_from(StudyState))
def test_every_state_has_a_way_out(state):
    ways_out = []
    for event in StudyEvent:
        try:
            ways_out.append(advance(state, event))
        except TransitionError:
            continue
    assert set(ways_out) - {state}


@pytest.mark.parametrize("state", AT_REST)
def test_a_study_at_rest_can_be_requeued(state):
    assert advance(state, StudyEvent.REQUEUED) is StudyState.RECEIVING


@pytest.mark.parametrize("state", [StudyState.QUEUED, StudyState.SCREENING, StudyState.RECEIVING])
def test_a_study_on_its_way_cannot_be_requeued(state):
    with pytest.raises(TransitionError):
        advance(state, StudyEvent.REQUEUED)


@pytest.mark.parametrize(
    ("screening", "deliveries_done", "expected"),
    [
        (ScreeningState.QUEUED, False, StudyState.QUEUED),
        (ScreeningState.RUNNING, False, StudyState.SCREENING),
        (ScreeningState.SUCCEEDED, False, StudyState.DELIVERING),
        (ScreeningState.SUCCEEDED, True, StudyState.COMPLETED),
        (ScreeningState.REFUSED, False, StudyState.REFUSED),
        (ScreeningState.FAILED, False, StudyState.FAILED),
    ],
)
def test_unchanged_studies_return_to_where_they_were(screening, deliveries_done, expected):
    assert resume(screening, deliveries_done=deliveries_done) is expected


def test_a_superseded_screening_is_never_resumed():
    with pytest.raises(TransitionError):
        resume(ScreeningState.SUPERSEDED, deliveries_done=True)
