"""Load: instances to send, and two independent senders that record what they were answered."""

from __future__ import annotations

import os
import re
import subprocess
from math import isqrt
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from support.storescu import ENVIRONMENT, Storescu

from dicom_node.peers.replies import keep_replies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700

# What storescu -v prints: the file, and what became of it.
_SENDING = re.compile(r"^I: Sending file: (.+)$")
_ANSWERED = re.compile(r"^[IEW]: Received Store Response \((.+)\)$")
_DCMTK_STATUS = {"Success": SUCCESS, "Refused: OutOfResources": OUT_OF_RESOURCES}
_UNKNOWN_STATUS = 0xFFFF


def write_instances(folder: Path, count: int, size: int = 100_000) -> list[Path]:
    """Write CT Image Storage instances of one series, each with about `size` random bytes.

    Nothing compresses or repeats in them, so that no wrong byte can go unnoticed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    side = max(1, isqrt(size // 2))
    study_uid, series_uid = generate_uid(), generate_uid()
    paths = []
    for number in range(count):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        uid = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
        dataset.Modality = "CT"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.InstanceNumber = number + 1
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows = dataset.Columns = side
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.PixelData = os.urandom(2 * side * side)
        paths.append(folder / f"{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def send_with_dcmtk(
    files: Sequence[Path], port: int, answers: dict[Path, int] | None = None
) -> dict[Path, int]:
    """Send over one association with DCMTK's storescu.

    Parameters
    ----------
    files, port
        What, and where to on this machine.
    answers
        Takes the statuses as they come in, for whoever looks on meanwhile.

    Returns
    -------
    dict
        The status of each file that was answered; the connection may break at any time.
    """
    answers = {} if answers is None else answers
    options = ("--no-halt", "-v")
    command = Storescu().command(*files, port=port, called="LUNGWATCH", options=options)
    named = {str(path): path for path in files}
    sending: Path | None = None
    with subprocess.Popen(
        command,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            if (started := _SENDING.match(line)) is not None:
                sending = named.get(started[1])
            elif (answered := _ANSWERED.match(line)) is not None and sending is not None:
                answers[sending] = _DCMTK_STATUS.get(answered[1], _UNKNOWN_STATUS)
    return answers


def send_with_pynetdicom(
    files: Sequence[Path], port: int, answers: dict[Path, int] | None = None
) -> dict[Path, int]:
    """Send over one association with pynetdicom; the same in every other way."""
    answers = {} if answers is None else answers
    ae = AE("STORESCU")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    association = ae.associate("127.0.0.1", port, ae_title="LUNGWATCH")
    keep_replies(association)
    for path in files if association.is_established else ():
        status = association.send_c_store(path)
        # Not the association's own word: it learns of a broken connection a moment later.
        if "Status" not in status:
            break
        answers[path] = int(status.Status)
    if association.is_established:
        association.release()
    return answers


# Anything with their parameters is a sender.
SENDERS = (send_with_dcmtk, send_with_pynetdicom)


def acknowledged(answers: Mapping[Path, int]) -> list[Path]:
    """List the files that were answered with success."""
    return [path for path, status in answers.items() if status == SUCCESS]
