"""The presentation contexts Lungwatch accepts and proposes, as data."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, register_uid
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass

from dicom_node.sop_classes import CT_SOP_CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping

VERIFICATION = UID("1.2.840.10008.1.1")

# In our order of preference, which decides where a sender proposes several transfer syntaxes in
# one context: uncompressed first, since every sender can produce it and decoding is free;
# Explicit VR before Implicit, since it keeps the VR of private elements.
CT_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEG2000Lossless,
)

# Taken of what is only stored. Of a CT image never: Hounsfield units are measured, so nothing
# lossy will do, nor JPEG 2000 (…4.91), whose name does not promise reversible pixels; and a
# sender that is refused the retired big endian converts to what we can decode.
STORED_ONLY_TRANSFER_SYNTAXES: tuple[UID, ...] = (
    ExplicitVRBigEndian,
    JPEGLSNearLossless,
    JPEG2000,
    JPEGExtended12Bit,
    JPEGBaseline8Bit,
)

# What pydicom's dictionary does not name: supplements younger than it, and the private classes
# that scanners put beside their CT images.
ADDITIONAL_SOP_CLASSES: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
        "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
        "1.2.840.10008.5.1.4.1.1.9.100.1": "Waveform Presentation State Storage",
        "1.2.840.10008.5.1.4.1.1.9.100.2": "Waveform Acquisition Presentation State Storage",
        "1.3.12.2.1107.5.9.1": "Siemens CSA Non-Image Storage (private)",
        "1.3.12.2.1107.5.99.3.10": "Siemens CT MR Volume Storage (private)",
        "1.3.12.2.1107.5.99.3.11": "Siemens AX Frame Sets Storage (private)",
        "1.2.840.113619.4.3": "GE CT Image Information Object (private)",
        "1.2.840.113619.4.26": "GE 3D Model Storage (private)",
        "1.2.840.113619.4.30": "GE PET Raw Data Storage (private)",
        "1.2.392.200036.9116.7.8.1.1.1": "Toshiba Private Data Storage (private)",
        "1.3.46.670589.2.5.1.1": "Philips 3D Presentation State Storage (private)",
        "1.3.46.670589.5.0.1": "Philips Volume Storage (private)",
        "1.3.46.670589.5.0.2": "Philips 3D Object Storage (private)",
        "1.3.46.670589.5.0.2.1": "Philips 3D Object 2 Storage (private)",
        "1.3.46.670589.5.0.4": "Philips Composite Object Storage (private)",
        "1.3.46.670589.5.0.9": "Philips CT Synthetic Image Storage (private)",
    }
)

# PS3.5 section 10.1 asks every sender to offer the default transfer syntax too.
RESULT_TRANSFER_SYNTAXES: tuple[UID, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def sop_class_name(sop_class_uid: str) -> str:
    """Name a SOP class for people, the UID itself where nobody named it."""
    return ADDITIONAL_SOP_CLASSES.get(sop_class_uid) or UID(sop_class_uid).name


def accepted_sop_classes() -> tuple[UID, ...]:
    """Every storage SOP class that is accepted, in order of UID.

    All of the standard's are, and the private ones above, because a PACS that routes a study
    drops all of it when one class is refused. Only :data:`CT_SOP_CLASSES` are ever screened.
    """
    standard = {UID(str(context.abstract_syntax)) for context in AllStoragePresentationContexts}
    return tuple(sorted(standard | {UID(uid) for uid in ADDITIONAL_SOP_CLASSES}))


def accepted_transfer_syntaxes(sop_class_uid: str) -> tuple[UID, ...]:
    """Transfer syntaxes accepted for a storage SOP class, the preferred one first.

    Deflated syntaxes are accepted for none: half a megabyte of them inflates to a gigabyte.
    """
    if sop_class_uid in CT_SOP_CLASSES:
        return CT_TRANSFER_SYNTAXES
    return CT_TRANSFER_SYNTAXES + STORED_ONLY_TRANSFER_SYNTAXES


def accepted_contexts() -> list[PresentationContext]:
    """Presentation contexts of the listener: Verification and every storage class."""
    _register_additional_classes()
    contexts = [build_context(VERIFICATION, list(RESULT_TRANSFER_SYNTAXES))]
    contexts += [
        build_context(uid, list(accepted_transfer_syntaxes(uid))) for uid in accepted_sop_classes()
    ]
    return contexts


def _register_additional_classes() -> None:
    """Make pynetdicom serve the classes its own table does not know."""
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    for number, uid in enumerate(ADDITIONAL_SOP_CLASSES):
        if uid not in known:
            register_uid(uid, f"LungwatchAdditionalStorage{number}", StorageServiceClass)
