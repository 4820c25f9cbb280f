"""Acts that came to no good end: who tried what, and what kind of error ended it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import OperationalError

from dicom_node.errors import DicomNodeError
from model.errors import ModelError
from worker.audit.trail import acted
from worker.audit_entry import AuditOutcome
from worker.db import audit, studies
from worker.errors import FilesNotRemovedError, NotFoundError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from worker.audit_entry import AuditAction
    from worker.db.engine import Database
    from worker.db.tables import Study

log = structlog.get_logger(__name__)

_OURS = (WorkerError, DicomNodeError, ModelError)
_TROUBLE = (
    OSError,
    MemoryError,
    OperationalError,
    KeyboardInterrupt,
    FilesNotRemovedError,
)


@dataclass(slots=True)
class Attempt:
    """An act under way.

    Attributes
    ----------
    detail
        What is known of its object so far, of JSON types; never patient data, and nothing that
        somebody typed, which may be anything.
    """

    detail: dict[str, Any] = field(default_factory=dict)


@contextmanager
def attempt(
    database: Database,
    action: AuditAction,
    study: str = "",
    *,
    begins_trail: bool = True,
    **detail: object,
) -> Iterator[Attempt]:
    """Put into the audit trail that an act of the person at this shell failed, if it does.

    What succeeds, the act records itself, in its own transaction. The line of a failure has one
    of its own, after that of the act was rolled back, so this goes around it. The error goes on
    as it came, also where the line cannot be written.

    Parameters
    ----------
    database
        Where the trail is.
    action
        What is tried.
    study
        Id or Study Instance UID as it was asked for. It is recorded where there is such a study
        and not otherwise: what is no study may be a patient's name.
    begins_trail
        Whether the line may be the first one. A database has to stay empty that a backup is to
        be restored into.
    **detail
        As `Attempt`.
    """
    under_way = Attempt(dict(detail))
    try:
        yield under_way
    except BaseException as error:
        _record(database, action, study, under_way, error, begins_trail=begins_trail)
        raise


def outcome_of(error: BaseException) -> AuditOutcome:
    """Tell how bad an end is (PS3.15 section A.5.2, EventOutcomeIndicator).

    Returns
    -------
    AuditOutcome
        A minor failure where we refused it for a reason: it can be asked for again. A serious one
        where machine, service or person ended it, a major one where nobody foresaw the error.
    """
    # First: some errors of the machine have one of our names.
    if isinstance(error, _TROUBLE):
        return AuditOutcome.SERIOUS_FAILURE
    if isinstance(error, _OURS):
        return AuditOutcome.MINOR_FAILURE
    return AuditOutcome.MAJOR_FAILURE


def _record(
    database: Database,
    action: AuditAction,
    study: str,
    under_way: Attempt,
    error: BaseException,
    *,
    begins_trail: bool,
) -> None:
    kind = type(error).__name__
    try:
        with database.transaction() as session:
            if begins_trail or audit.head(session)[0]:
                detail = {**under_way.detail, "error": kind}
                found = _find(session, study)
                acted(session, action, found, outcome=outcome_of(error), **detail)
    except Exception as unwritten:  # noqa: BLE001 - whatever it is, the act's error comes first
        log.warning("failure_not_audited", error=kind, because=type(unwritten).__name__)


def _find(session: Session, study: str) -> Study | None:
    try:
        return studies.find(session, study) if study else None
    except NotFoundError:
        return None
