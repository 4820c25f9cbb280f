"""The life of a study as a pure state machine: states, what may happen, and what follows.

Nothing here knows the database, DICOM or Celery. `db.events` applies the transitions and writes
each one to the event log.
"""

from __future__ import annotations

from enum import StrEnum

from worker.errors import TransitionError


class StudyState(StrEnum):
    """Where a study stands; every study is in exactly one of these."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    SCREENING = "screening"
    DELIVERING = "delivering"
    COMPLETED = "completed"
    REFUSED = "refused"
    IGNORED = "ignored"
    FAILED = "failed"


class StudyEvent(StrEnum):
    """What can happen to a study."""

    CT_RECEIVED = "ct_received"
    SERIES_CHOSEN = "series_chosen"
    NOTHING_TO_SCREEN = "nothing_to_screen"
    REFUSED = "refused"
    SERIES_REFUSED = "series_refused"
    CLAIMED = "claimed"
    LEASE_EXPIRED = "lease_expired"
    SCREENED = "screened"
    FAILED = "failed"
    DELIVERED = "delivered"
    NOT_COMMITTED = "not_committed"
    FILES_LOST = "files_lost"
    UNCHANGED = "unchanged"
    REQUEUED = "requeued"


class Progress(StrEnum):
    """Coded reasons of the states a study passes through; refusals use `dicom_node.reasons`."""

    WAITING_TO_SETTLE = "waiting_to_settle"
    WAITING_FOR_WORKER = "waiting_for_worker"
    WORKER_LOST = "worker_lost"
    IN_WORK = "in_work"
    WAITING_FOR_DESTINATION = "waiting_for_destination"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    DELIVERED = "delivered"
    NO_DESTINATION = "no_destination"
    DELIVERY_REFUSED = "delivery_refused"
    NOT_COMMITTED = "not_committed"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    PROCESSING_ERROR = "processing_error"
    NOTHING_TO_SCREEN = "nothing_to_screen"
    RECEIVED_AGAIN = "received_again"
    REQUEUED = "requeued"
    IMAGES_CLEANED = "images_cleaned"
    FILES_LOST = "files_lost"


AT_REST = (StudyState.COMPLETED, StudyState.REFUSED, StudyState.IGNORED, StudyState.FAILED)

_TRANSITIONS: dict[StudyEvent, tuple[tuple[StudyState, ...], StudyState]] = {
    StudyEvent.CT_RECEIVED: (tuple(StudyState), StudyState.RECEIVING),
    StudyEvent.SERIES_CHOSEN: ((StudyState.RECEIVING,), StudyState.QUEUED),
    StudyEvent.NOTHING_TO_SCREEN: ((StudyState.RECEIVING,), StudyState.IGNORED),
    StudyEvent.REFUSED: ((StudyState.RECEIVING, StudyState.SCREENING), StudyState.REFUSED),
    StudyEvent.SERIES_REFUSED: ((StudyState.SCREENING,), StudyState.RECEIVING),
    StudyEvent.CLAIMED: ((StudyState.QUEUED,), StudyState.SCREENING),
    StudyEvent.LEASE_EXPIRED: ((StudyState.SCREENING,), StudyState.QUEUED),
    StudyEvent.SCREENED: ((StudyState.SCREENING,), StudyState.DELIVERING),
    StudyEvent.FAILED: (
        (StudyState.RECEIVING, StudyState.SCREENING, StudyState.DELIVERING),
        StudyState.FAILED,
    ),
    StudyEvent.DELIVERED: ((StudyState.DELIVERING,), StudyState.COMPLETED),
    StudyEvent.NOT_COMMITTED: (
        (StudyState.COMPLETED, StudyState.FAILED),
        StudyState.DELIVERING,
    ),
    StudyEvent.FILES_LOST: (tuple(StudyState), StudyState.FAILED),
    StudyEvent.REQUEUED: ((*AT_REST, StudyState.DELIVERING), StudyState.RECEIVING),
}


class ScreeningState(StrEnum):
    """Where one screening (a series in one revision of its study) stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class PromotionAction(StrEnum):
    """How another model version came into use."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


class ModelState(StrEnum):
    """Where a model version stands in an installation."""

    CURRENT = "current"
    CANDIDATE = "candidate"
    RETIRED = "retired"


class DeliveryState(StrEnum):
    """Where one object stands on its way to one destination."""

    PENDING = "pending"
    DELIVERED = "delivered"
    REFUSED = "refused"
    CANCELLED = "cancelled"


class CommitmentState(StrEnum):
    """What a destination has promised for a delivered object (PS3.4 annex J)."""

    NOT_ASKED = "not_asked"
    WAITING = "waiting"
    REQUESTED = "requested"
    COMMITTED = "committed"


class TrainingState(StrEnum):
    """Where one run of `lungwatch retrain` in the training queue stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


STUDY_STATE_OF: dict[ScreeningState, StudyState] = {
    ScreeningState.QUEUED: StudyState.QUEUED,
    ScreeningState.RUNNING: StudyState.SCREENING,
    ScreeningState.SUCCEEDED: StudyState.DELIVERING,
    ScreeningState.REFUSED: StudyState.REFUSED,
    ScreeningState.FAILED: StudyState.FAILED,
}
"""The state a study returns to when late instances turn out to change nothing."""


def advance(state: StudyState, event: StudyEvent) -> StudyState:
    """Tell the state that follows.

    Parameters
    ----------
    state
        Where the study stands.
    event
        What happened to it. `StudyEvent.UNCHANGED` has no fixed follower: see `resume`.

    Returns
    -------
    StudyState
        Where the study stands now.

    Raises
    ------
    TransitionError
        If this cannot happen in that state.
    """
    allowed = _TRANSITIONS.get(event)
    if allowed is None or state not in allowed[0]:
        raise TransitionError(f"a study in state {state.value} cannot take {event.value}")
    return allowed[1]


def resume(screening: ScreeningState, *, deliveries_done: bool) -> StudyState:
    """Tell the state a settled study returns to when its chosen series did not change.

    Parameters
    ----------
    screening
        State of the screening of the unchanged series.
    deliveries_done
        Whether every object of it reached every destination.

    Returns
    -------
    StudyState
        The state the study had before the late instances came.
    """
    if screening is ScreeningState.SUPERSEDED:
        raise TransitionError("a superseded screening cannot be resumed")
    if screening is ScreeningState.SUCCEEDED and deliveries_done:
        return StudyState.COMPLETED
    return STUDY_STATE_OF[screening]
