"""What the tests of the listener share: associations with it, and what its spool holds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.peers.replies import keep_replies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pynetdicom.association import Association

    from dicom_node.receiving.spool import Spool

AE_TITLE = "LUNGWATCH"


@contextlib.contextmanager
def association(port: int, *sop_classes: str, calling: str = "STORESCU") -> Iterator[Association]:
    ae = AE(ae_title=calling)
    for sop_class in sop_classes or (CTImageStorage,):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    link = ae.associate("127.0.0.1", port, ae_title=AE_TITLE)
    assert link.is_established
    keep_replies(link)
    try:
        yield link
    finally:
        if link.is_established:
            link.release()


def reasons(spool: Spool) -> set[str]:
    return {note.reason for _, note in spool.refusals()}


def orphans(spool: Spool) -> list[Path]:
    return list((spool.root / "incoming").iterdir())


def dataset_part(path: Path) -> bytes:
    """What follows the file meta information (PS3.10 section 7.1)."""
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]
