"""Conversations with a storage SCP as pynetdicom encodes them: the seeds of the PDU fuzzer.

`python tests/support/pdu_corpus.py tests/fuzz/corpus` writes the corpus anew. A file holds what one
association's requestor sends, PDU after PDU; no patient is in it.
"""

from __future__ import annotations

import struct
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
)
from pynetdicom import build_context, dimse_messages
from pynetdicom.dimse_primitives import (
    C_CANCEL,
    C_ECHO,
    C_FIND,
    C_MOVE,
    C_STORE,
    N_ACTION,
    N_EVENT_REPORT,
)
from pynetdicom.pdu import (
    A_ABORT_RQ,
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    A_ASSOCIATE_RQ,
    A_RELEASE_RP,
    A_RELEASE_RQ,
    P_DATA_TF,
)
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

CALLING, CALLED = "STORESCU", "LUNGWATCH"
_HEADER = struct.Struct(">BxL")
_ECHO, _STORE, _COMMIT = 1, 3, 5
# (0008,0016), (0008,0018) and (0010,0010) of nobody, in Implicit VR Little Endian.
_DATA_SET = b"".join(
    struct.pack("<HHL", group, element, len(value)) + value
    for group, element, value in (
        (8, 0x16, b"1.2.840.10008.5.1.4.1.1.2\0"),
        (8, 0x18, b"1.2.3.4\0"),
        (16, 0x10, b"NOBODY"),
    )
)


def split(conversation: bytes) -> list[bytes]:
    """Cut what a requestor sends into its PDUs (PS3.8 section 9.3.1)."""
    pdus, at = [], 0
    while at < len(conversation):
        (_, length) = _HEADER.unpack_from(conversation, at)
        pdus.append(conversation[at : at + _HEADER.size + length])
        at += _HEADER.size + length
    return pdus


def is_whole(pdu: bytes) -> bool:
    """Tell whether a receiver has all that the PDU declares."""
    return len(pdu) >= _HEADER.size and len(pdu) >= _HEADER.size + _HEADER.unpack_from(pdu)[1]


def read_corpus(folder: Path) -> dict[str, list[bytes]]:
    """Read the conversations of a folder."""
    return {path.stem: split(path.read_bytes()) for path in sorted(folder.glob("*.bin"))}


def conversations() -> dict[str, list[bytes]]:
    """Make the conversations."""
    release, plain, rich = A_RELEASE_RQ().encode(), _request(), _request(rich=True)
    aborted = A_ABORT_RQ()
    aborted.source, aborted.reason_diagnostic = 2, 1
    echo = _message(C_ECHO(), _ECHO, AffectedSOPClassUID=Verification)
    return {
        "abort": [plain, *echo, aborted.encode()],
        "echo": [plain, *echo, release],
        "event_report": [rich, *_event_report(), release],
        "other_services": [plain, *_other_services(), release],
        "responses": [plain, *_responses()],
        "store": [rich, *_store(size=256), release],
        "store_in_fragments": [plain, *_store(size=64), *echo, release],
    }


def _request(*, rich: bool = False) -> bytes:
    """An A-ASSOCIATE-RQ; a rich one has every user information sub-item there is."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = CALLING, CALLED
    syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
    contexts = [
        build_context(Verification, syntaxes),
        build_context(CTImageStorage, [ImplicitVRLittleEndian]),
        build_context(StorageCommitmentPushModel, syntaxes),
        build_context(CTImageStorage, [JPEGLosslessSV1]),
    ]
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = contexts
    length, uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16382
    uid.implementation_class_uid = "1.2.3.4"
    primitive.user_information = [length, uid, *(_negotiations() if rich else ())]
    return bytes(A_ASSOCIATE_RQ(primitive).encode())


def _negotiations() -> list[Any]:
    version, window = (
        ImplementationVersionNameNotification(),
        AsynchronousOperationsWindowNegotiation(),
    )
    version.implementation_version_name = "SEED"
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 1
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = StorageCommitmentPushModel, False, True
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = CTImageStorage, b"\2\0"
    common = SOPClassCommonExtendedNegotiation()
    common.sop_class_uid, common.service_class_uid = CTImageStorage, "1.2.840.10008.4.2"
    common.related_general_sop_class_identification = [CTImageStorage]
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 2, b"user"
    identity.secondary_field, identity.positive_response_requested = b"word", True
    return [version, window, role, extended, common, identity]


def _message(primitive: Any, context: int, size: int = 16382, **fields: Any) -> list[bytes]:
    primitive.MessageID = fields.pop("MessageID", 1)
    for name, value in fields.items():
        setattr(primitive, name, value)
    message = getattr(dimse_messages, f"{type(primitive).__name__}_RQ")()
    message.primitive_to_message(primitive)
    return [P_DATA_TF(part).encode() for part in message.encode_msg(context, size)]


def _store(size: int) -> list[bytes]:
    return _message(
        C_STORE(),
        _STORE,
        size,
        AffectedSOPClassUID=CTImageStorage,
        AffectedSOPInstanceUID="1.2.3.4",
        Priority=2,
        DataSet=BytesIO(_DATA_SET),
    )


def _event_report() -> list[bytes]:
    return _message(
        N_EVENT_REPORT(),
        _COMMIT,
        AffectedSOPClassUID=StorageCommitmentPushModel,
        AffectedSOPInstanceUID="1.2.840.10008.1.20.1.1",
        EventTypeID=1,
        EventInformation=BytesIO(_DATA_SET),
    )


def _other_services() -> list[bytes]:
    cancel = C_CANCEL()
    cancel.MessageIDBeingRespondedTo = 7
    message = dimse_messages.C_CANCEL_RQ()
    message.primitive_to_message(cancel)
    query = {"AffectedSOPClassUID": CTImageStorage, "Priority": 2, "Identifier": BytesIO(_DATA_SET)}
    return [
        *_message(C_FIND(), _STORE, **query),
        *(P_DATA_TF(part).encode() for part in message.encode_msg(_STORE, 16382)),
        *_message(C_MOVE(), _STORE, MoveDestination="ANYWHERE", **query),
        *_message(
            N_ACTION(),
            _COMMIT,
            RequestedSOPClassUID=StorageCommitmentPushModel,
            RequestedSOPInstanceUID="1.2.840.10008.1.20.1.1",
            ActionTypeID=1,
            ActionInformation=BytesIO(_DATA_SET),
        ),
    ]


def _responses() -> list[bytes]:
    """What only an acceptor may send."""
    accept = A_ASSOCIATE()
    accept.application_context_name = "1.2.840.10008.3.1.1.1"
    accept.calling_ae_title, accept.called_ae_title = CALLING, CALLED
    accept.result, accept.result_source = 0, 1
    context = build_context(Verification)
    context.context_id, context.result = _ECHO, 0
    accept.presentation_context_definition_results_list = [context]
    length, uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, uid.implementation_class_uid = 16382, "1.2.3.4"
    accept.user_information = [length, uid]
    reject = A_ASSOCIATE()
    reject.result, reject.result_source, reject.diagnostic = 1, 1, 1
    return [
        A_ASSOCIATE_AC(accept).encode(),
        A_ASSOCIATE_RJ(reject).encode(),
        A_RELEASE_RP().encode(),
    ]


if __name__ == "__main__":
    for name, pdus in conversations().items():
        (Path(sys.argv[1]) / f"{name}.bin").write_bytes(b"".join(pdus))
