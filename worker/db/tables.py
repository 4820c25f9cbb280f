"""The tables: studies and what was received, screened, found and delivered, and the event log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.audit_entry import ActorKind, AuditAction, AuditOutcome
from worker.db.base import Base, Digest, Key, Uid, coded
from worker.judgement import Lesions, RejectReason, ReviewDecision
from worker.lifecycle import (
    CommitmentState,
    DeliveryState,
    PromotionAction,
    ScreeningState,
    StudyState,
    TrainingState,
)


class Study(Base):
    """One study, in one visible state with a coded reason.

    `assemble_at` is when a receiving study counts as complete: the settle time after its last CT.
    `cleaned_at` is when retention gave up its images and results; while `files_to_remove` is set,
    some of their files may still be there.
    """

    __tablename__ = "studies"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_instance_uid: Mapped[str] = mapped_column(String(128), unique=True)
    state: Mapped[StudyState] = mapped_column(coded(StudyState), index=True)
    reason: Mapped[str] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text, default="")
    revision: Mapped[int] = mapped_column(default=0)
    patient_id: Mapped[str] = mapped_column(Text, default="")
    patient_name: Mapped[str] = mapped_column(Text, default="")
    accession_number: Mapped[str] = mapped_column(Text, default="")
    study_date: Mapped[str] = mapped_column(Text, default="")
    study_description: Mapped[str] = mapped_column(Text, default="")
    duplicate_count: Mapped[int] = mapped_column(default=0)
    conflict_count: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    assemble_at: Mapped[datetime | None] = mapped_column(index=True)
    cleaned_at: Mapped[datetime | None]
    files_to_remove: Mapped[bool] = mapped_column(default=False)

    instances: Mapped[list[Instance]] = relationship(back_populates="study")
    series: Mapped[list[Series]] = relationship(back_populates="study")
    screenings: Mapped[list[Screening]] = relationship(
        back_populates="study", order_by="Screening.revision"
    )


class Instance(Base):
    """One received SOP instance: what it says of itself, and what was done with it.

    `cleaned_at` is when its file was given up, None once it came again. `header` is read where it
    is asked for: that of a multi-frame instance takes a megabyte.
    """

    __tablename__ = "instances"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "content_digest"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(128), default="")
    sop_instance_uid: Mapped[str] = mapped_column(String(128))
    sop_class_uid: Mapped[str] = mapped_column(String(128), default="")
    content_digest: Mapped[str] = mapped_column(Digest)
    path: Mapped[str] = mapped_column(Text)
    disposition: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    header: Mapped[dict[str, Any]] = mapped_column(deferred=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16), default="")
    received_at: Mapped[datetime]
    cleaned_at: Mapped[datetime | None]

    study: Mapped[Study] = relationship(back_populates="instances")


class Series(Base):
    """The decision on one series of a study, made anew with each revision."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("study_id", "series_instance_uid"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    series_instance_uid: Mapped[str] = mapped_column(String(128))
    modality: Mapped[str] = mapped_column(Text, default="")
    description: Mapped[str] = mapped_column(Text, default="")
    instance_count: Mapped[int]
    chosen: Mapped[bool]
    reason: Mapped[str | None] = mapped_column(String(64))
    detail: Mapped[str] = mapped_column(Text, default="")

    study: Mapped[Study] = relationship(back_populates="series")


class ModelVersionRow(Base):
    """A model version that was registered or has screened here.

    `manifest_sha256` is that of its manifest when it was registered: calibration and thresholds
    belong to a version as its weights do.
    """

    __tablename__ = "model_versions"
    __table_args__ = (UniqueConstraint("name", "version", "sha256"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(Digest)
    manifest_sha256: Mapped[str | None] = mapped_column(Digest)
    registered_at: Mapped[datetime | None]
    first_used_at: Mapped[datetime | None]


class LockedTestSet(Base):
    """What the locked test set was when it was locked; the latest row is in force."""

    __tablename__ = "test_sets"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    locked_at: Mapped[datetime]
    locked_by: Mapped[str] = mapped_column(Text)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Digest)
    images: Mapped[int]
    reason: Mapped[str] = mapped_column(Text)


class Promotion(Base):
    """One change of the version in use; the database itself refuses to change or delete it.

    `number` counts up without a gap: of two people who promote at the same time one is refused.
    """

    __tablename__ = "promotions"

    number: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    action: Mapped[PromotionAction] = mapped_column(coded(PromotionAction))
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    previous_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    who: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    overridden: Mapped[bool]
    test_set_id: Mapped[int | None] = mapped_column(ForeignKey("test_sets.id"))
    comparison: Mapped[dict[str, Any] | None]

    model_version: Mapped[ModelVersionRow] = relationship(foreign_keys=[model_version_id])
    previous: Mapped[ModelVersionRow] = relationship(foreign_keys=[previous_id])


_IN_FORCE = "state IN ('queued', 'running', 'succeeded')"


class Screening(Base):
    """One chosen series in one revision of its study: the work, its lease and its result.

    `attempts` counts claims and is the fencing token: only the claim that holds the current
    value may record a result; of them `excused_attempts` came to nothing through no fault of the
    study. Of a study one screening at most is in force. `cleaned_at` is when
    the files of its result were given up.
    """

    __tablename__ = "screenings"
    __table_args__ = (
        UniqueConstraint("study_id", "revision"),
        Index(
            "uq_screenings_in_force",
            "study_id",
            unique=True,
            sqlite_where=text(_IN_FORCE),
            postgresql_where=text(_IN_FORCE),
        ),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"))
    revision: Mapped[int]
    series_instance_uid: Mapped[str] = mapped_column(String(128))
    instances_digest: Mapped[str] = mapped_column(Digest)
    state: Mapped[ScreeningState] = mapped_column(coded(ScreeningState), index=True)
    reason: Mapped[str] = mapped_column(String(64), default="")
    detail: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    excused_attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    claimed_by: Mapped[str] = mapped_column(Text, default="")
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cleaned_at: Mapped[datetime | None]
    predecessor_id: Mapped[int | None] = mapped_column(ForeignKey("screenings.id"))
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    result_identity: Mapped[str | None] = mapped_column(Digest, index=True)
    result: Mapped[dict[str, Any] | None]

    study: Mapped[Study] = relationship(back_populates="screenings")
    model_version: Mapped[ModelVersionRow | None] = relationship()
    findings: Mapped[list[FindingRow]] = relationship(
        order_by="FindingRow.segment_number", cascade="all, delete-orphan"
    )
    deliveries: Mapped[list[Delivery]] = relationship(
        back_populates="screening", order_by="Delivery.id"
    )


class FindingRow(Base):
    """One lesion of a screening's result."""

    __tablename__ = "findings"
    __table_args__ = (UniqueConstraint("screening_id", "segment_number"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    screening_id: Mapped[int] = mapped_column(ForeignKey("screenings.id"))
    segment_number: Mapped[int]
    tracking_uid: Mapped[str] = mapped_column(Uid)
    volume_ml: Mapped[float]
    laterality: Mapped[str] = mapped_column(String(16))
    mean_hu: Mapped[float]
    maximum_diameter_mm: Mapped[float]
    slice_count: Mapped[int]


class Delivery(Base):
    """The outbox: one encoded object on its way to one destination.

    `commitment` tells how far that destination's promise to keep it is. `commitment_due_at` is
    when to ask for it next, or again; `commitment_transaction_uid` names the last request since it
    was sent.
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid", "destination"),
        Index("ix_deliveries_due", "state", "next_attempt_at"),
        Index("ix_deliveries_commitment", "commitment", "commitment_due_at"),
        Index("uq_deliveries_kind", "screening_id", "destination", "kind", unique=True),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    screening_id: Mapped[int] = mapped_column(ForeignKey("screenings.id"), index=True)
    destination: Mapped[str] = mapped_column(String(128))
    kind: Mapped[str] = mapped_column(String(16))
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    series_instance_uid: Mapped[str] = mapped_column(Uid)
    path: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(Digest)
    state: Mapped[DeliveryState] = mapped_column(coded(DeliveryState))
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime]
    last_error: Mapped[str] = mapped_column(Text, default="")
    delivered_at: Mapped[datetime | None]
    commitment: Mapped[CommitmentState] = mapped_column(
        coded(CommitmentState), default=CommitmentState.NOT_ASKED
    )
    commitment_due_at: Mapped[datetime | None]
    commitment_attempts: Mapped[int] = mapped_column(default=0)
    commitment_failures: Mapped[int] = mapped_column(default=0)
    commitment_error: Mapped[str] = mapped_column(Text, default="")
    committed_at: Mapped[datetime | None]
    commitment_transaction_uid: Mapped[str | None] = mapped_column(Uid)

    screening: Mapped[Screening] = relationship(back_populates="deliveries")


class CommitmentRequest(Base):
    """A Storage Commitment request; a report that names none of these is nobody's answer."""

    __tablename__ = "commitment_requests"

    transaction_uid: Mapped[str] = mapped_column(Uid, primary_key=True)
    destination: Mapped[str] = mapped_column(String(128))
    requested_at: Mapped[datetime]


class Circuit(Base):
    """A destination that is away: nothing goes there but one object when `probe_at` is over."""

    __tablename__ = "circuits"

    destination: Mapped[str] = mapped_column(String(128), primary_key=True)
    failures: Mapped[int]
    opened_at: Mapped[datetime]
    probe_at: Mapped[datetime]
    last_error: Mapped[str] = mapped_column(Text)


class Event(Base):
    """One line of the append-only log; the database itself refuses to change or delete it."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    study_id: Mapped[int | None] = mapped_column(ForeignKey("studies.id"), index=True)
    screening_id: Mapped[int | None] = mapped_column(ForeignKey("screenings.id"))
    event: Mapped[str] = mapped_column(String(64))
    detail: Mapped[dict[str, Any]]


class AuditEvent(Base):
    """One line of the audit trail; the database itself refuses to change or delete it.

    It refers to no other row: the trail outlives the studies it tells of. `digest` seals the line
    with the digest of the one before it (`worker.db.audit`).
    """

    __tablename__ = "audit_events"

    number: Mapped[int] = mapped_column(Key, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(index=True)
    action: Mapped[AuditAction] = mapped_column(coded(AuditAction, length=32))
    outcome: Mapped[AuditOutcome] = mapped_column(coded(AuditOutcome))
    actor_kind: Mapped[ActorKind] = mapped_column(coded(ActorKind))
    actor: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    study_instance_uid: Mapped[str | None] = mapped_column(String(128), index=True)
    detail: Mapped[dict[str, Any]]
    previous_digest: Mapped[str] = mapped_column(Digest, unique=True)
    digest: Mapped[str] = mapped_column(Digest)


class Review(Base):
    """A radiologist's judgement of one result; append-only, the newest of a study counts.

    `covid` and `lesions` are the label that follows from it. The segmentation is a copy of its
    own in the reviews folder: the corrected one, or for an accepted result the network's.
    """

    __tablename__ = "reviews"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    study_id: Mapped[int] = mapped_column(ForeignKey("studies.id"), index=True)
    screening_id: Mapped[int] = mapped_column(ForeignKey("screenings.id"))
    reviewed_at: Mapped[datetime]
    reviewer: Mapped[str] = mapped_column(String(128))
    decision: Mapped[ReviewDecision] = mapped_column(coded(ReviewDecision))
    reason: Mapped[RejectReason | None] = mapped_column(coded(RejectReason, length=32))
    covid: Mapped[bool | None]
    lesions: Mapped[Lesions] = mapped_column(coded(Lesions))
    segmentation_path: Mapped[str | None] = mapped_column(Text)
    segmentation_sha256: Mapped[str | None] = mapped_column(Digest)
    note: Mapped[str] = mapped_column(Text, default="")

    study: Mapped[Study] = relationship()
    screening: Mapped[Screening] = relationship()


class TrainingRun(Base):
    """A retraining that was asked of the training queue: its lease, stage and end.

    `attempts` counts claims and is the fencing token, as in `Screening`.
    """

    __tablename__ = "training_runs"

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    state: Mapped[TrainingState] = mapped_column(coded(TrainingState))
    folder: Mapped[str] = mapped_column(Text, unique=True)
    request: Mapped[dict[str, Any]]
    stage: Mapped[str] = mapped_column(Text, default="")
    detail: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    claimed_by: Mapped[str] = mapped_column(Text, default="")
    lease_expires_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    candidate_sha256: Mapped[str | None] = mapped_column(Digest)
