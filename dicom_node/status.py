"""Status codes of the Storage Service Class and what each means for the sender."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from pynetdicom.status import STATUS_WARNING, code_to_category


class StorageStatus(IntEnum):
    """C-STORE statuses Lungwatch answers with or treats apart (PS3.4 B.2.3, PS3.7 Annex C)."""

    SUCCESS = 0x0000
    DUPLICATE_SOP_INSTANCE = 0x0111
    RESOURCE_LIMITATION = 0x0213
    OUT_OF_RESOURCES = 0xA700
    CANNOT_UNDERSTAND = 0xC000


class StoreVerdict(StrEnum):
    """What a peer's answer says about one object."""

    STORED = "stored"
    STORED_WITH_WARNING = "stored_with_warning"
    ALREADY_STORED = "already_stored"
    UNAVAILABLE = "unavailable"
    REFUSED = "refused"


def verdict_of(status: int) -> StoreVerdict:
    """Judge a C-STORE status, or the reason of a STOW-RS answer, which has the same codes.

    Parameters
    ----------
    status
        (0000,0900) Status, (0008,1196) Warning Reason or (0008,1197) Failure Reason.
    """
    if status == StorageStatus.SUCCESS:
        return StoreVerdict.STORED
    if status == StorageStatus.DUPLICATE_SOP_INSTANCE:
        return StoreVerdict.ALREADY_STORED
    # All of A7xx is "Out of Resources" (PS3.4 table B.2-1).
    if status >> 8 == 0xA7 or status == StorageStatus.RESOURCE_LIMITATION:
        return StoreVerdict.UNAVAILABLE
    if code_to_category(status) == STATUS_WARNING:
        return StoreVerdict.STORED_WITH_WARNING
    return StoreVerdict.REFUSED
