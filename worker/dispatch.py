"""Composition of what happens to a result once it exists: delivery, commitment, retention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dicom_node.receiving.commitment_reports import CommitmentReports
from worker.bootstrap import destinations
from worker.delivery.commitment import Committer
from worker.delivery.outbox import Deliverer, RetryPolicy
from worker.retention.retention import Retention, RetentionPolicy

if TYPE_CHECKING:
    from worker.db.engine import Database
    from worker.settings import Settings

_MIB = 1024 * 1024
_HEADROOM_MB = 256


def deliverer(settings: Settings, database: Database) -> Deliverer:
    """Build the delivery to all destinations."""
    return Deliverer(
        database, settings.results_dir, destinations(settings), _retry_policy(settings)
    )


def committer(settings: Settings, database: Database) -> Committer:
    """Build what asks all destinations to keep what they were sent."""
    return Committer(
        database,
        CommitmentReports(settings.spool_dir),
        destinations(settings),
        _retry_policy(settings),
        settings.commitment_report_seconds,
    )


def _retry_policy(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        first_seconds=settings.delivery_retry_seconds,
        longest_seconds=settings.delivery_retry_maximum_seconds,
        lease_seconds=settings.delivery_lease_seconds,
    )


def retention(settings: Settings, database: Database) -> Retention:
    """Build what removes files whose time is over."""
    # Below the listener's own limit nothing more would come that could make room necessary.
    lowest = settings.minimum_free_mb + _HEADROOM_MB
    free_mb = max(settings.retention_free_mb, lowest) if settings.retention_free_mb else 0
    policy = RetentionPolicy(
        delivered_days=settings.retention_days,
        reviewed_days=settings.retention_reviewed_days,
        refused_days=settings.retention_refused_days,
        free_bytes=free_mb * _MIB,
    )
    return Retention(database, settings.spool_dir, settings.results_dir, policy)
