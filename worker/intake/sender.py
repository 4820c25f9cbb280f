"""What a sender said of an instance, as the spool wrote it down in the file meta information."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info

from dicom_node.reading import attributes

if TYPE_CHECKING:
    from pathlib import Path

_AE_TITLE_LENGTH = 16


def calling_ae_title(path: Path) -> str:
    """Return who sent an instance; an AE title has 16 characters (PS3.5 section 6.2)."""
    title = attributes.text(_file_meta(path), "SourceApplicationEntityTitle")
    return title[:_AE_TITLE_LENGTH]


def claimed_sop_instance_uid(path: Path) -> str:
    """Return the UID the sender named in its C-STORE request, which the spool wrote down.

    Of a request that named none, whatever it named instead, it is what stands for it.
    """
    return attributes.uid(_file_meta(path), "MediaStorageSOPInstanceUID") or own_uid(path)


def own_uid(path: Path) -> str:
    """Return what stands for a UID: the hash of it that the file's name begins with.

    The whole name would be longer than the database's columns for UIDs.
    """
    return path.stem.partition("-")[0]


def _file_meta(path: Path) -> Dataset:
    """Read the file meta the spool wrote; empty for a file that is none of the spool's."""
    try:
        return read_file_meta_info(path)
    except (InvalidDicomError, EOFError, ValueError, KeyError, struct.error):
        return Dataset()
