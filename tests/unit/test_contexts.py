"""What is accepted, in which transfer syntax, and which one wins."""

from __future__ import annotations

import pytest
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
)
from pynetdicom.presentation import build_context, negotiate_as_acceptor
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from dicom_node.contexts import (
    CT_SOP_CLASSES,
    CT_TRANSFER_SYNTAXES,
    STORED_ONLY_TRANSFER_SYNTAXES,
    accepted_contexts,
    accepted_sop_classes,
    accepted_transfer_syntaxes,
    sop_class_name,
)
from dicom_node.objects.provenance import RESULT_SOP_CLASSES
from dicom_node.reading.decoding import READABLE_TRANSFER_SYNTAXES

# What a routed chest CT study was seen to hold beside its images.
COMPANIONS = {
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.4": "Multi-frame True Color Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.67": "X-Ray Radiation Dose SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.76": "Enhanced X-Ray Radiation Dose SR Storage",
    "1.2.840.10008.5.1.4.1.1.88.59": "Key Object Selection Document Storage",
    "1.2.840.10008.5.1.4.1.1.11.1": "Grayscale Softcopy Presentation State Storage",
    "1.2.840.10008.5.1.4.1.1.104.1": "Encapsulated PDF Storage",
    "1.2.840.10008.5.1.4.1.1.66": "Raw Data Storage",
    "1.2.840.10008.5.1.4.1.1.66.1": "Spatial Registration Storage",
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.5": "Surface Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.67": "Real World Value Mapping Storage",
    "1.2.840.10008.5.1.4.1.1.481.3": "RT Structure Set Storage",
    "1.2.840.10008.5.1.4.1.1.128": "Positron Emission Tomography Image Storage",
    "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image Storage (private)",
}


@pytest.mark.parametrize("uid", COMPANIONS)
def test_companions_of_a_ct_are_accepted_and_have_a_name(uid: str) -> None:
    assert uid in accepted_sop_classes()
    assert sop_class_name(uid) == COMPANIONS[uid]


def test_every_accepted_class_has_a_name() -> None:
    nameless = [uid for uid in accepted_sop_classes() if sop_class_name(uid) == uid]
    assert nameless == []


def test_what_we_send_we_would_take() -> None:
    assert set(RESULT_SOP_CLASSES) <= set(accepted_sop_classes())


@pytest.mark.parametrize("uid", CT_SOP_CLASSES)
def test_ct_is_taken_in_what_the_reader_decodes_and_nothing_else(uid: str) -> None:
    assert accepted_transfer_syntaxes(uid) == CT_TRANSFER_SYNTAXES
    assert set(CT_TRANSFER_SYNTAXES) == READABLE_TRANSFER_SYNTAXES
    assert not set(CT_TRANSFER_SYNTAXES) & set(STORED_ONLY_TRANSFER_SYNTAXES)


def test_what_is_only_stored_may_be_lossy() -> None:
    assert JPEGBaseline8Bit in accepted_transfer_syntaxes(SecondaryCaptureImageStorage)


def test_deflated_is_taken_for_nothing() -> None:
    for context in accepted_contexts():
        assert DeflatedExplicitVRLittleEndian not in context.transfer_syntax


def test_every_context_is_served_by_a_service_class() -> None:
    verification, *storage = accepted_contexts()
    assert verification.abstract_syntax == "1.2.840.10008.1.1"
    for context in storage:
        assert uid_to_service_class(context.abstract_syntax) is StorageServiceClass


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([ImplicitVRLittleEndian, ExplicitVRLittleEndian], ExplicitVRLittleEndian),
        ([JPEGLosslessSV1, ImplicitVRLittleEndian], ImplicitVRLittleEndian),
        ([JPEG2000Lossless, JPEGLosslessSV1], JPEGLosslessSV1),
        ([JPEGBaseline8Bit, JPEG2000Lossless], JPEG2000Lossless),
    ],
)
def test_the_preferred_of_several_proposed(proposed: list[str], chosen: str) -> None:
    for sop_class in (CTImageStorage, SecondaryCaptureImageStorage):
        request = build_context(sop_class, proposed)
        request.context_id = 1
        ((answer,), _) = negotiate_as_acceptor([request], accepted_contexts())
        assert answer.result == 0
        assert answer.transfer_syntax == [chosen]


def test_a_lossy_ct_context_is_refused() -> None:
    request = build_context(CTImageStorage, [JPEGBaseline8Bit])
    request.context_id = 1
    ((answer,), _) = negotiate_as_acceptor([request], accepted_contexts())
    assert answer.result == 0x04
