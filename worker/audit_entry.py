"""What the audit trail tells: who did what, with which outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class AuditAction(StrEnum):
    """What was done; `worker.audit.messages` has the DICOM audit event of each."""

    APPLICATION_STARTED = "application_started"
    APPLICATION_STOPPED = "application_stopped"
    CALLER_ADMITTED = "caller_admitted"
    ASSOCIATION_REJECTED = "association_rejected"
    STUDY_RECEIVED = "study_received"
    STUDY_SCREENED = "study_screened"
    RESULT_SENT = "result_sent"
    STUDY_REVIEWED = "study_reviewed"
    STUDY_REQUEUED = "study_requeued"
    PATIENT_SHOWN = "patient_shown"
    PATIENTS_LISTED = "patients_listed"
    REVIEWED_EXPORTED = "reviewed_exported"
    STUDIES_CLEANED = "studies_cleaned"
    RETRAINING_STARTED = "retraining_started"
    MODEL_PROMOTED = "model_promoted"
    MODEL_ROLLED_BACK = "model_rolled_back"
    TEST_SET_LOCKED = "test_set_locked"
    DATABASE_UPGRADED = "database_upgraded"
    DATABASE_BACKED_UP = "database_backed_up"
    DATABASE_RESTORED = "database_restored"
    DATABASE_RECONCILED = "database_reconciled"
    AUDIT_LISTED = "audit_listed"
    AUDIT_VERIFIED = "audit_verified"
    AUDIT_EXPORTED = "audit_exported"


class AuditOutcome(StrEnum):
    """How it ended: the four values of EventOutcomeIndicator (PS3.15 section A.5.2)."""

    SUCCESS = "success"
    MINOR_FAILURE = "minor_failure"
    SERIOUS_FAILURE = "serious_failure"
    MAJOR_FAILURE = "major_failure"


class ActorKind(StrEnum):
    """Who acts: a person at a shell, a DICOM application, or a process of ours."""

    PERSON = "person"
    APPLICATION = "application"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it.

    Attributes
    ----------
    kind
        What sort of actor.
    name
        Login name, AE title, or command and process.
    source
        Network address or host name it acted from.
    """

    kind: ActorKind
    name: str
    source: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act, before the trail gives it its number and time.

    Attributes
    ----------
    action, actor, outcome
        Who did what, and how it ended.
    study_instance_uid
        The study it was done to, where it was one.
    detail
        Further facts of JSON types; never patient data.
    """

    action: AuditAction
    actor: Actor
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    study_instance_uid: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
