"""When a study is complete, and whether a late instance changes a series: pure functions."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from dicom_node.reading.header import InstanceHeader


def settles_at(last_received_at: datetime, settle_seconds: float) -> datetime:
    """Give the moment from which a study without further instances counts as complete.

    Parameters
    ----------
    last_received_at
        When the last instance came.
    settle_seconds
        How long a study must be quiet; DICOM has no "study complete" message for C-STORE.
    """
    return last_received_at + timedelta(seconds=settle_seconds)


def group_by_series(
    headers: Iterable[InstanceHeader],
) -> dict[str, tuple[InstanceHeader, ...]]:
    """Group instances by series instance UID, both in an order that does not depend on arrival."""
    groups: dict[str, list[InstanceHeader]] = {}
    for header in sorted(headers, key=canonical_order):
        groups.setdefault(header.series_instance_uid, []).append(header)
    return {uid: tuple(group) for uid, group in sorted(groups.items())}


def series_digest_of_headers(headers: Iterable[InstanceHeader]) -> str:
    """Give the identity of a set of instances, as hexadecimal SHA-256.

    Two sets are equal when they hold the same SOP instance UIDs with the same content digests,
    in any order and however often each was received: a late instance that changes the digest of
    the chosen series asks for a new revision, a repeated one does not.
    """
    lines = {f"{h.sop_instance_uid} {h.content_sha256}\n" for h in headers}
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def canonical_order(header: InstanceHeader) -> tuple[bool, int, str, str]:
    """Give a sorting key that does not depend on the order of arrival."""
    number = header.instance_number
    return (number is None, number or 0, header.sop_instance_uid, header.content_sha256)
