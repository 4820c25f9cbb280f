"""Sends the study of a folder by C-STORE, as a modality would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.peers import OutgoingObject, open_peer
from worker.demo.errors import DemoError
from worker.errors import FolderError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dicom_node.config import Destination

_TAGS = ["StudyInstanceUID", "SOPClassUID", "SOPInstanceUID"]
# One association for each, so that memory holds no whole study and progress is seen.
_OBJECTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """The DICOM files of one study.

    Attributes
    ----------
    study_instance_uid
        The study.
    objects
        Its instances.
    """

    study_instance_uid: str
    objects: tuple[OutgoingObject, ...]


def find_study(folder: Path) -> StudyFiles:
    """Find the study a folder holds, with its subfolders; what is no instance is passed over.

    Raises
    ------
    FolderError
        If there is none, or more than one.
    """
    studies: dict[str, list[OutgoingObject]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            header = dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
        except (InvalidDicomError, OSError):
            continue
        if all(tag in header for tag in _TAGS):
            instance = OutgoingObject(header.SOPClassUID, header.SOPInstanceUID, path)
            studies.setdefault(str(header.StudyInstanceUID), []).append(instance)
    if len(studies) != 1:
        held = f"{len(studies)} studies" if studies else "no DICOM study"
        raise FolderError(f"{folder} holds {held}: give the folder of one study")
    ((uid, objects),) = studies.items()
    return StudyFiles(uid, tuple(objects))


def send_study(
    study: StudyFiles, destination: Destination, report: Callable[[str, float | None], None]
) -> None:
    """Send all instances of a study.

    Raises
    ------
    DemoError
        If the peer stored none of them.
    PeerUnavailableError, PeerRefusedError
        If the peer answered to none of a batch.
    """
    peer = open_peer(destination)
    complaints: list[str] = []
    for start in range(0, len(study.objects), _OBJECTS_AT_ONCE):
        report(f"sending the study to {destination.name}", start / len(study.objects))
        batch = study.objects[start : start + _OBJECTS_AT_ONCE]
        complaints += [outcome.detail for outcome in peer.store(batch) if not outcome.stored]
    if len(complaints) == len(study.objects):
        raise DemoError(f"{destination.name} stored nothing of the study: {complaints[0]}")
