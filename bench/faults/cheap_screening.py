"""A worker's job with the work taken out: claims, leases, files, results and outbox stay real.

Reading, the network and the encoding are replaced; a job takes milliseconds, and still makes one
SEG and one SR with the UIDs that the real one would derive.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import Comprehensive3DSRStorage, ExplicitVRLittleEndian, SegmentationStorage

from dicom_node.objects.common_attributes import encode_file
from dicom_node.objects.provenance import UidRole
from dicom_node.objects.results import EncodedObject
from dicom_node.reading.ct_series import CtSeries, SliceReference
from model.prediction import LesionMask, ModelVersion, Prediction
from model.volume import CtVolume
from worker import bootstrap
from worker.screening import job, screening

if TYPE_CHECKING:
    from dicom_node.objects.provenance import ResultContext

# Root of the studies that kill whoever reads them.
POISON = "1.2.826.0.666"

_WORK_SECONDS = 0.01
_MODEL = ModelVersion("none", "0", hashlib.sha256(b"none").hexdigest())
_KINDS = (
    ("seg", SegmentationStorage, UidRole.SEGMENTATION, UidRole.SEGMENTATION_SERIES),
    ("sr", Comprehensive3DSRStorage, UidRole.REPORT, UidRole.REPORT_SERIES),
)


class NoNetwork:
    """Says the same of every volume."""

    model_version = _MODEL

    def pipeline_digest(self) -> str:
        """Name the pipeline."""
        return "none"

    def predict(self, volume: CtVolume, *_: object) -> Prediction:
        """Take some time, and find nothing."""
        time.sleep(_WORK_SECONDS)
        return Prediction(
            model=_MODEL,
            covid_probability=0.1,
            operating_point=0.5,
            screened_slices=(0,),
            slice_probabilities=(0.1,),
            lesion_mask=LesionMask(np.zeros(volume.shape, np.uint8)),
            findings=(),
            lung_volume_ml=1.0,
        )


def read(_paths: object, series_uid: str, **_: object) -> CtSeries:
    """Make up a series of one voxel; its study is known from its UID (`support.study_rows`)."""
    if series_uid.startswith(POISON):
        os.kill(os.getpid(), signal.SIGKILL)
    source = Dataset()
    source.StudyInstanceUID, source.SeriesInstanceUID = series_uid.rpartition(".")[0], series_uid
    volume = CtVolume(np.zeros((1, 1, 1), np.int16), (1.0, 1.0, 1.0), np.eye(4))
    digest = hashlib.sha256(series_uid.encode()).hexdigest()
    return CtSeries(volume, (SliceReference("1.2", f"{series_uid}.1"),), (source,), digest)


def encode(series: CtSeries, _: object, context: ResultContext) -> tuple[EncodedObject, ...]:
    """Encode a SEG and an SR that hold their UIDs, modality and no more."""
    objects = []
    for kind, sop_class, role, series_role in _KINDS:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, context.uid(role)
        dataset.Modality = kind.upper()
        dataset.StudyInstanceUID = series.study_instance_uid
        dataset.SeriesInstanceUID = context.uid(series_role)
        uids = (str(sop_class), context.uid(role), context.uid(series_role))
        objects.append(EncodedObject(kind, *uids, encode_file(dataset)))
    return tuple(objects)


def install() -> None:
    """Put it in the place of the work."""

    def no_network(*_: Any) -> NoNetwork:  # noqa: ANN401 - whatever is asked for
        return NoNetwork()

    bootstrap.load_predictor = no_network
    job.read_ct_series = read
    screening.encode_result = encode
