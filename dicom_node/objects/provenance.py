"""Who made a result and from what: its identity, its deterministic UIDs and its equipment."""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from pydicom.uid import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime

    from model.prediction import ModelVersion

MANUFACTURER = "Lungwatch"
MODEL_NAME = "Lungwatch CT screening"
UUID_ROOT = "2.25."
RESULT_SOP_CLASSES = frozenset(
    {SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage}
)

_MAXIMUM_UID_LENGTH = 64
# A shorter number would let two results meet by chance; 24 digits are 80 bits.
_MINIMUM_DIGITS = 24
_ROOT_PATTERN = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+\.")


class UidRole(StrEnum):
    """What a derived UID identifies."""

    SEGMENTATION_SERIES = "segmentation series"
    SEGMENTATION = "segmentation"
    DIMENSION_ORGANIZATION = "dimension organization"
    SUMMARY_SERIES = "summary series"
    SUMMARY = "summary"
    REPORT_SERIES = "report series"
    REPORT = "report"
    STUDY_FINDING = "study finding"
    LESION = "lesion"


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """What makes two results the same result.

    Attributes
    ----------
    series_digest
        Digest of the source instances' UIDs, pixels and geometry (`CtSeries.digest`).
    model_sha256
        SHA-256 of the model version's weights.
    pipeline_digest
        Digest of everything else that shapes a result: operating point, lesion threshold,
        engine, code version.
    """

    series_digest: str
    model_sha256: str
    pipeline_digest: str


@dataclass(frozen=True, slots=True)
class PredecessorReport:
    """The report a new revision supersedes (Predecessor Documents Sequence, PS3.3 C.17.2)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Equipment:
    """The Lungwatch node as the result objects name it (PS3.3 C.7.5.1).

    Attributes
    ----------
    software_version
        Version of Lungwatch.
    station_name
        Name of the node in its department, at most 16 characters.
    institution_name
        Where the node runs, at most 64 characters; empty if not to be told.
    """

    software_version: str
    station_name: str = "LUNGWATCH"
    institution_name: str = ""


@dataclass(frozen=True, slots=True)
class ResultContext:
    """Everything the result objects need beside the series and the prediction.

    Attributes
    ----------
    identity
        The result; all UIDs are derived from it and from what else enters the bytes, see `uid`.
    model
        The model version that spoke.
    created_at
        Time of the screening. Every date and time inside the objects comes from it, as it stands
        on its clock, so that encoding again gives the same bytes.
    equipment
        The node.
    revision
        1 for the first result of a series, counted up when late instances supersede it.
    predecessor
        The report of the revision before, None for the first.
    uid_root
        Root of all UIDs with its closing dot; ``2.25.`` makes them UUIDs (PS3.5 section B.2).

    Raises
    ------
    ConfigurationError
        If `uid_root` is no UID root, or leaves too few digits for a unique UID.
    """

    identity: ResultIdentity
    model: ModelVersion
    created_at: datetime
    equipment: Equipment
    revision: int = 1
    predecessor: PredecessorReport | None = None
    uid_root: str = field(default=UUID_ROOT)

    def __post_init__(self) -> None:
        check_uid_root(self.uid_root)

    def uid(self, role: UidRole, index: int = 0) -> str:
        """UID of one thing of this result.

        The same UID must mean the same bytes. So beside the identity it depends on all that the
        objects tell of node and model, and on the time zone their dates are written in.
        """
        return derive_uid(self.uid_root, self.identity, self._wording(), role, self.revision, index)

    def _wording(self) -> str:
        """Digest of what the objects say beside the identity."""
        said = (
            self.model.name,
            self.model.version,
            self.equipment.software_version,
            self.equipment.station_name,
            self.equipment.institution_name,
            str(self.created_at.utcoffset()),
        )
        return _digest(said).hex()

    @property
    def device_uid(self) -> str:
        """UID of node software and model version together: another model is another device."""
        model = (self.model.name, self.model.version, self.model.sha256)
        name = ("device", *model, self.equipment.software_version)
        return uid_from_name(self.uid_root, name)


class Header(Protocol):
    """The part of an instance's header that tells whether it is ours."""

    @property
    def manufacturer(self) -> str | None:
        """Manufacturer (0008,0070)."""

    @property
    def manufacturer_model_name(self) -> str | None:
        """Manufacturer's Model Name (0008,1090)."""

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID (0008,0016)."""


def check_uid_root(root: str) -> None:
    """Refuse a UID root that cannot begin valid and unique UIDs (PS3.5 section 9.1).

    Raises
    ------
    ConfigurationError
        With the root and what a root must look like.
    """
    if not _ROOT_PATTERN.fullmatch(root):
        raise ConfigurationError(
            f"UID root {root!r} is not one: numbers with dots between them and a dot at its end, "
            f"such as {UUID_ROOT!r}"
        )
    if len(root) > _MAXIMUM_UID_LENGTH - _MINIMUM_DIGITS:
        raise ConfigurationError(
            f"UID root {root!r} is too long: at most {_MAXIMUM_UID_LENGTH - _MINIMUM_DIGITS} "
            "characters leave room for a unique UID"
        )


def derive_uid(
    root: str,
    identity: ResultIdentity,
    wording: str,
    role: UidRole,
    revision: int = 1,
    index: int = 0,
) -> str:
    """Derive the UID of one thing of a result from the result's identity.

    Parameters
    ----------
    root
        UID root with its closing dot.
    identity
        The result.
    wording
        Digest of what else enters its bytes.
    role
        What the UID identifies.
    revision
        Revision of the result.
    index
        Which one, where a result has several: a lesion's segment number.

    Returns
    -------
    str
        At most 64 characters, the same for the same arguments on every machine.
    """
    name = (
        identity.series_digest,
        identity.model_sha256,
        identity.pipeline_digest,
        wording,
        role.value,
        str(revision),
        str(index),
    )
    return uid_from_name(root, name)


def uid_from_name(root: str, name: tuple[str, ...]) -> str:
    """Derive a UID of at most 64 characters from a name, by SHA-256."""
    digest = _digest(name)
    if root == UUID_ROOT:
        return f"{root}{_name_based_uuid(digest).int}"
    digits = _MAXIMUM_UID_LENGTH - len(root)
    return f"{root}{int.from_bytes(digest) % 10**digits}"


def _digest(parts: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


def is_own_result(header: Header) -> bool:
    """Whether an instance is a result of Lungwatch that came back, and must not be screened.

    It asks for equipment and SOP class, not for the UID root: results written under an earlier
    root are ours as well.
    """
    return (
        header.sop_class_uid in RESULT_SOP_CLASSES
        and header.manufacturer == MANUFACTURER
        and header.manufacturer_model_name == MODEL_NAME
    )


def _name_based_uuid(digest: bytes) -> uuid.UUID:
    """Make a UUID of version 8 (RFC 9562 section 5.8), which the standard library lacks yet."""
    value = int.from_bytes(digest[:16])
    value = value & ~(0xF << 76) | 8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)
