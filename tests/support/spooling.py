"""Instances in a spool as the listener would put them there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.filereader import read_file_meta_info

from dicom_node.receiving.refusals import RefusalNote

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.receiving.spool import Spool, SpooledInstance

_PREAMBLE_AND_PREFIX = 132
_GROUP_LENGTH_ELEMENT = 12


def spool_file(spool: Spool, path: Path) -> SpooledInstance:
    """Spool a DICOM file: its data set to the byte, under a file meta of the spool's own."""
    meta = read_file_meta_info(path)
    # Not every archive writes it, and a C-STORE request takes it from the data set anyway.
    uid = (
        meta.get("MediaStorageSOPInstanceUID")
        or dcmread(path, stop_before_pixels=True)["SOPInstanceUID"].value
    )
    return spool.store(
        encoded_dataset(path),
        sop_class_uid=meta.MediaStorageSOPClassUID,
        sop_instance_uid=uid,
        transfer_syntax_uid=meta.TransferSyntaxUID,
        calling_ae_title="SENDER",
        called_ae_title="LUNGWATCH",
    )


def refusal() -> RefusalNote:
    """What is noted of a stranger who was turned away."""
    return RefusalNote(
        time=datetime.now(UTC),
        reason="calling_ae_not_allowed",
        calling_ae_title="STRANGER",
        called_ae_title="LUNGWATCH",
        peer_address="127.0.0.1",
        detail="The calling AE title is not on the list.",
    )


def encoded_dataset(path: Path) -> bytes:
    """The data set of a DICOM file to the byte, without its file meta information."""
    length = read_file_meta_info(path).FileMetaInformationGroupLength
    return path.read_bytes()[_PREAMBLE_AND_PREFIX + _GROUP_LENGTH_ELEMENT + length :]
