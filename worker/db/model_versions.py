"""Model versions in the database: registered, in use, and how each came into use.

The promotions are a log that is only added to. The version in use is what the log ends at: a
promotion puts a version on top of the stack of those before it, a rollback takes the top away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, inspect, select
from sqlalchemy.exc import IntegrityError

from worker.db.engine import now
from worker.db.tables import LockedTestSet, ModelVersionRow, Promotion
from worker.errors import PromotionError
from worker.lifecycle import ModelState, PromotionAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Engine
    from sqlalchemy.orm import Session

    from model.prediction import ModelVersion


def prepared(engine: Engine) -> bool:
    """Tell whether a database can hold promotions; one of an older version holds none."""
    return inspect(engine).has_table(Promotion.__tablename__)


def find(session: Session, model: ModelVersion) -> ModelVersionRow | None:
    """Return the row of a version with exactly these weights, None before its first mention."""
    return session.scalar(
        select(ModelVersionRow).where(
            ModelVersionRow.name == model.name,
            ModelVersionRow.version == model.version,
            ModelVersionRow.sha256 == model.sha256,
        )
    )


def used(session: Session, model: ModelVersion) -> ModelVersionRow:
    """Return the row of a version that screens, new at its first use."""
    row = _row(session, model)
    if row.first_used_at is None:
        row.first_used_at = now(session)
        session.flush()
    return row


def register(session: Session, model: ModelVersion, manifest_sha256: str) -> ModelVersionRow:
    """Return the row of a version with its manifest on record.

    Raises
    ------
    PromotionError
        If the version was registered with another manifest, or its name stands for other weights.
    """
    other = session.scalar(
        select(ModelVersionRow).where(
            ModelVersionRow.name == model.name,
            ModelVersionRow.version == model.version,
            ModelVersionRow.sha256 != model.sha256,
            ModelVersionRow.registered_at.is_not(None),
        )
    )
    title = f"{model.name}-{model.version}"
    if other is not None:
        raise PromotionError(
            f"{title} was registered with other weights (sha256 {other.sha256[:12]}): a version "
            "never changes, release these under another version"
        )
    row = _row(session, model)
    if row.manifest_sha256 not in {None, manifest_sha256}:
        raise PromotionError(
            f"{title} was registered with another manifest: a version never changes, release the "
            "changed one under another version, or put the manifest back"
        )
    if row.registered_at is None:
        row.manifest_sha256, row.registered_at = manifest_sha256, now(session)
        session.flush()
    return row


def generation(session: Session) -> int:
    """Return the number of the latest promotion or rollback, 0 before the first."""
    return session.scalar(select(func.max(Promotion.number))) or 0


def history(session: Session) -> Sequence[Promotion]:
    """List all promotions and rollbacks, oldest first."""
    return session.scalars(select(Promotion).order_by(Promotion.number)).all()


def stack(session: Session) -> list[ModelVersionRow]:
    """Return the versions that were in use one after the other, without those rolled back.

    The last one is in use, the one before it is what a rollback goes back to. Empty before the
    first promotion; the first entry is what screened before it.
    """
    versions: list[ModelVersionRow] = []
    for step in history(session):
        if not versions:
            versions.append(step.previous)
        if step.action is PromotionAction.PROMOTED:
            versions.append(step.model_version)
        else:
            versions.pop()
    return versions


def current(session: Session) -> ModelVersionRow | None:
    """Return the version in use, None before the first promotion."""
    versions = stack(session)
    return versions[-1] if versions else None


def states(session: Session) -> dict[int, ModelState]:
    """Tell of every version in the database, by its row's id, where it stands."""
    known = dict.fromkeys(session.scalars(select(ModelVersionRow.id)), ModelState.CANDIDATE)
    for step in history(session):
        known[step.previous_id] = known[step.model_version_id] = ModelState.RETIRED
    in_use = current(session)
    if in_use is not None:
        known[in_use.id] = ModelState.CURRENT
    return known


def every(session: Session) -> Sequence[ModelVersionRow]:
    """List the versions that were registered or have screened, in the order they came."""
    return session.scalars(select(ModelVersionRow).order_by(ModelVersionRow.id)).all()


def record(session: Session, promotion: Promotion, after: int) -> Promotion:
    """Add a promotion or rollback to the log.

    Parameters
    ----------
    session
        The transaction.
    promotion
        What happened; number and time are filled in.
    after
        The generation it was decided on.

    Raises
    ------
    PromotionError
        If another promotion came in between.
    """
    promotion.number, promotion.at = after + 1, now(session)
    session.add(promotion)
    try:
        session.flush()
    except IntegrityError:
        raise PromotionError(
            "another version was promoted or rolled back meanwhile: look at `lungwatch model list` "
            "and compare again"
        ) from None
    return promotion


def locked_test_set(session: Session) -> LockedTestSet | None:
    """Return the test set in force as it was when it was locked."""
    return session.scalar(select(LockedTestSet).order_by(LockedTestSet.id.desc()).limit(1))


def lock_test_set(session: Session, locked: LockedTestSet) -> LockedTestSet:
    """Put a test set into force."""
    locked.locked_at = now(session)
    session.add(locked)
    session.flush()
    return locked


def _row(session: Session, model: ModelVersion) -> ModelVersionRow:
    row = find(session, model)
    if row is None:
        row = ModelVersionRow(name=model.name, version=model.version, sha256=model.sha256)
        session.add(row)
        session.flush()
    return row
