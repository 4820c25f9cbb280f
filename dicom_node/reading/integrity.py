"""Whether a stored instance still is what was received: its bytes against the spool's digest.

Most errors of a disk within a lossless codestream decode to another image without a word.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dicom_node.errors import RefusedError, is_from_system
from dicom_node.reading import attributes
from dicom_node.reading.header import read_file_meta
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK_BYTES = 1 << 20


def content_digest_of_file(path: Path) -> str:
    """Give `receiving.spool.content_digest` of a stored instance; empty for no DICOM file.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as file:
        try:
            meta, begins = read_file_meta(file)
        except Exception as error:
            if is_from_system(error):
                raise
            return ""
        digest = hashlib.sha256(attributes.uid(meta, "TransferSyntaxUID").encode() + b"\0")
        file.seek(begins)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def check_content(path: Path, content_digest: str) -> None:
    """Check that a file of the spool is as it was received.

    Raises
    ------
    RefusedError
        SPOOL_DAMAGED.
    OSError
        If the file cannot be read.
    """
    if content_digest_of_file(path) != content_digest:
        raise RefusedError(
            Reason.SPOOL_DAMAGED, f"{path.name} is not what was received: its digest differs"
        )
