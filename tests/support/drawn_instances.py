"""CT instances of tiny drawn series, encoded as they come over the wire; none is a patient's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import CTImageStorage, SegmentationStorage

from dicom_node.objects.pseudonymous_slices import Pseudonym, encode_slice
from model.volume import CtVolume

SLICES = 4
_SPACING_MM = (60.0, 2.0, 2.0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which instance: `other` has the same UIDs and another pixel, and so conflicts."""

    study: int
    series: int
    slice: int
    other: bool = False


@cache
def drawn_instance(drawn: Drawn) -> tuple[str, str, bytes]:
    """SOP class, SOP instance UID and encoded data set of an instance."""
    image = dcmread(BytesIO(encode_slice(_volume(), drawn.slice, Pseudonym("p", "study"))))
    image.StudyInstanceUID = f"1.2.3.{drawn.study}"
    image.SeriesInstanceUID = f"1.2.3.{drawn.study}.{drawn.series}"
    image.SOPInstanceUID = f"1.2.3.{drawn.study}.{drawn.series}.{drawn.slice}"
    if drawn.other:
        image.PixelData = b"\1" + image.PixelData[1:]
    return str(CTImageStorage), str(image.SOPInstanceUID), _encoded(image)


@cache
def returned_result(sop_instance_uid: str) -> tuple[str, str, bytes]:
    """One of our own results under its UID, as a PACS that routes everything sends it back."""
    image = dcmread(BytesIO(encode_slice(_volume(), 0, Pseudonym("p", "study"))))
    image.SOPClassUID = SegmentationStorage
    image.SOPInstanceUID = sop_instance_uid
    image.StudyInstanceUID = "1.2.3.0"
    image.SeriesInstanceUID = "1.2.3.0.99"
    return str(SegmentationStorage), sop_instance_uid, _encoded(image)


def _volume() -> CtVolume:
    affine = np.array([[0, 0, 2, 0], [0, 2, 0, 0], [60, 0, 0, 0], [0, 0, 0, 1]], float)
    return CtVolume(np.full((SLICES, 16, 16), -800, np.int16), _SPACING_MM, affine)


def _encoded(image: Dataset) -> bytes:
    buffer = BytesIO()
    bare = Dataset()
    bare.update({element.tag: element for element in image})
    bare.save_as(buffer, implicit_vr=False, little_endian=True)
    return buffer.getvalue()
