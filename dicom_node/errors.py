"""Errors of the DICOM edge; retriable and permanent ones are told apart by type."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dicom_node.reasons import Reason


def is_from_system(error: Exception) -> bool:
    """Whether the operating system raised it; pydicom's own OSErrors, of content, have no number.

    A disk in trouble says nothing about what a file holds.
    """
    return isinstance(error, OSError) and error.errno is not None


class DicomNodeError(Exception):
    """Root of every error the DICOM edge raises on purpose."""


class ConfigurationError(DicomNodeError):
    """A setting of the DICOM edge that cannot work; the message names it."""


class SpoolError(DicomNodeError):
    """A stored object cannot be taken or given: the disk is full, or a file is not what it was."""


class RefusedError(DicomNodeError):
    """An input that will never be screened, with the coded reason a person gets to see.

    Attributes
    ----------
    reason
        The code.
    detail
        One sentence that names the thing that was found.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class SegmentationError(DicomNodeError):
    """A segmentation that does not say where a series has lesions; the message says why."""


class CommitmentReportError(DicomNodeError):
    """A storage commitment report that does not say what it is about."""


class PeerError(DicomNodeError):
    """A DICOM or DICOMweb peer did not do what was asked."""


class PeerUnavailableError(PeerError):
    """The peer could not be reached or is busy: worth another try later."""


class PeerNotReadyError(PeerUnavailableError):
    """The peer, or a proxy before it, answers but does not let us through as things are set up.

    Someone must change credentials, an address or a limit. Worth another try later, and not
    within seconds: many wrong passwords close an account.
    """


class PeerRefusedError(PeerError):
    """The peer answered, and said no to this object: a person must look."""
