"""Lines of the audit trail as DICOM audit messages (PS3.15 section A.5)."""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

from worker.audit_entry import ActorKind, AuditAction, AuditOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from worker.db.tables import AuditEvent

_OUTCOMES = {
    AuditOutcome.SUCCESS: "0",
    AuditOutcome.MINOR_FAILURE: "4",
    AuditOutcome.SERIOUS_FAILURE: "8",
    AuditOutcome.MAJOR_FAILURE: "12",
}
# A code of DCM (PS3.16 annex D) or of RFC 3881 (PS3.15 section A.5.1.2.4), and its meaning.
_Code = tuple[str, str]
_DCM, _RFC_3881 = "DCM", "RFC-3881"
_APPLICATION, _SOURCE, _DESTINATION = (
    ("110150", "Application"),
    ("110153", "Source Role ID"),
    ("110152", "Destination Role ID"),
)
_STUDY_INSTANCE_UID = ("110180", "Study Instance UID")
_NODE_ID = ("110182", "Node ID")
_PATIENT_NUMBER, _URI = ("2", "Patient Number"), ("12", "URI")
_ACTIVITY = ("110100", "Application Activity")
_ACCESSED = ("110103", "DICOM Instances Accessed")
_TRANSFERRED = ("110104", "DICOM Instances Transferred")
_DELETED = ("110105", "DICOM Study Deleted")
_EXPORT = ("110106", "Export")
_LOG_USED = ("110101", "Audit Log Used")
_ALERT = ("110113", "Security Alert")
_AUTHENTICATION = ("110114", "User Authentication")
_NODE_AUTHENTICATION = ("110126", "Node Authentication")
_SOFTWARE_CONFIGURATION = ("110131", "Software Configuration")
_RESTRICTED_FUNCTION = ("110132", "Use of Restricted Function")
# What XML 1.0 has no place for; an AE title may hold any byte.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class _Kind:
    """DICOM's view of an action: event, what is done (C, R, U, D or E), and its type."""

    event: _Code
    code: str
    type: _Code | None = None


_KINDS = {
    AuditAction.APPLICATION_STARTED: _Kind(_ACTIVITY, "E", ("110120", "Application Start")),
    AuditAction.APPLICATION_STOPPED: _Kind(_ACTIVITY, "E", ("110121", "Application Stop")),
    AuditAction.CALLER_ADMITTED: _Kind(_AUTHENTICATION, "E", ("110122", "Login")),
    AuditAction.ASSOCIATION_REJECTED: _Kind(_ALERT, "E", _NODE_AUTHENTICATION),
    AuditAction.STUDY_RECEIVED: _Kind(_TRANSFERRED, "C"),
    AuditAction.STUDY_SCREENED: _Kind(_ACCESSED, "R"),
    AuditAction.RESULT_SENT: _Kind(_TRANSFERRED, "C"),
    AuditAction.STUDY_REVIEWED: _Kind(_ACCESSED, "U"),
    AuditAction.STUDY_REQUEUED: _Kind(_ACCESSED, "U"),
    AuditAction.PATIENT_SHOWN: _Kind(_ACCESSED, "R"),
    AuditAction.PATIENTS_LISTED: _Kind(_ALERT, "E", _RESTRICTED_FUNCTION),
    AuditAction.REVIEWED_EXPORTED: _Kind(_EXPORT, "R"),
    AuditAction.STUDIES_CLEANED: _Kind(_DELETED, "D"),
    AuditAction.RETRAINING_STARTED: _Kind(_ALERT, "E", _RESTRICTED_FUNCTION),
    AuditAction.MODEL_PROMOTED: _Kind(_ALERT, "E", _SOFTWARE_CONFIGURATION),
    AuditAction.MODEL_ROLLED_BACK: _Kind(_ALERT, "E", _SOFTWARE_CONFIGURATION),
    AuditAction.TEST_SET_LOCKED: _Kind(_ALERT, "E", _SOFTWARE_CONFIGURATION),
    AuditAction.DATABASE_UPGRADED: _Kind(_ALERT, "E", _SOFTWARE_CONFIGURATION),
    AuditAction.DATABASE_BACKED_UP: _Kind(_ALERT, "E", _RESTRICTED_FUNCTION),
    AuditAction.DATABASE_RESTORED: _Kind(_ALERT, "E", _RESTRICTED_FUNCTION),
    AuditAction.DATABASE_RECONCILED: _Kind(_ALERT, "E", _RESTRICTED_FUNCTION),
    AuditAction.AUDIT_LISTED: _Kind(_LOG_USED, "R"),
    AuditAction.AUDIT_VERIFIED: _Kind(_LOG_USED, "R"),
    AuditAction.AUDIT_EXPORTED: _Kind(_LOG_USED, "R"),
}


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Which installation the messages are about.

    Attributes
    ----------
    ae_title
        Its AE title.
    host
        The machine they are written on.
    site
        Its institution; may be empty.
    patient_of
        Gives for a Study Instance UID what stands for its patient.
    """

    ae_title: str
    host: str
    site: str
    patient_of: Callable[[str], str]


def dicom_message(line: AuditEvent, source: AuditSource) -> str:
    """Write a line of the trail as a DICOM audit message.

    Parameters
    ----------
    line
        What happened.
    source
        Where.

    Returns
    -------
    str
        XML of the schema of PS3.15 section A.5.1, without line breaks.
    """
    kind = _KINDS[line.action]
    message = Element("AuditMessage")
    event = SubElement(
        message,
        "EventIdentification",
        EventActionCode=kind.code,
        EventDateTime=line.at.isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=_OUTCOMES[line.outcome],
    )
    _code(event, "EventID", kind.event)
    if kind.type is not None:
        _code(event, "EventTypeCode", kind.type)
    if line.outcome is not AuditOutcome.SUCCESS:
        # An act that failed may have no object yet that could carry its detail.
        why = str(line.detail.get("error") or line.detail.get("reason") or line.outcome.value)
        SubElement(event, "EventOutcomeDescription").text = _text(f"{line.action.value}: {why}")
    _participants(message, line, kind, source)
    reporter = SubElement(
        message,
        "AuditSourceIdentification",
        AuditSourceID=_text(f"{source.ae_title}@{source.host}"),
    )
    if source.site:
        reporter.set("AuditEnterpriseSiteID", _text(source.site))
    # An application server process (PS3.15 section A.5.1.2.1).
    SubElement(reporter, "AuditSourceTypeCode", {"csd-code": "4"})
    _objects(message, line, kind, source)
    return tostring(message, encoding="unicode")


def _participants(message: Element, line: AuditEvent, kind: _Kind, source: AuditSource) -> None:
    roles: tuple[_Code, ...] = ()
    if kind.event is _ACTIVITY:
        roles = (_APPLICATION,)
    elif kind.event in (_TRANSFERRED, _EXPORT):
        roles = (_SOURCE,)
    _participant(message, line.actor, line.actor_kind, line.source, roles, requestor=True)
    if line.action in (AuditAction.STUDY_RECEIVED, AuditAction.CALLER_ADMITTED):
        ends = (_DESTINATION,) if kind.event is _TRANSFERRED else ()
        _participant(message, source.ae_title, ActorKind.APPLICATION, source.host, ends)
    elif line.action is AuditAction.RESULT_SENT:
        destination = str(line.detail.get("destination", ""))
        _participant(message, destination, ActorKind.APPLICATION, "", (_DESTINATION,))
    elif line.action is AuditAction.REVIEWED_EXPORTED:
        _participant(message, line.actor, line.actor_kind, line.source, (_DESTINATION,))


def _participant(
    message: Element,
    name: str,
    kind: ActorKind,
    address: str,
    roles: Iterable[_Code],
    *,
    requestor: bool = False,
) -> None:
    shown = _text(name)
    user = shown if kind is ActorKind.APPLICATION else f"{shown}@{_text(address)}"
    participant = SubElement(
        message,
        "ActiveParticipant",
        UserID=user,
        UserIsRequestor="true" if requestor else "false",
    )
    if kind is ActorKind.APPLICATION:
        # PS3.15 section A.5.2: an AE is known by its title, whatever else its user is called.
        participant.set("AlternativeUserID", f"AETITLES={shown}")
    if address:
        participant.set("NetworkAccessPointID", _text(address))
        participant.set("NetworkAccessPointTypeCode", "2" if _is_ip_address(address) else "1")
    for role in roles:
        _code(participant, "RoleIDCode", role)


def _objects(message: Element, line: AuditEvent, kind: _Kind, source: AuditSource) -> None:
    detail = {"trail": f"line {line.number}", **line.detail}
    uids = [line.study_instance_uid] if line.study_instance_uid else []
    uids += line.detail.get("study_instance_uids", [])
    for uid in uids:
        # A report to the eyes of the schema: role 3 of a system object.
        study = _object(message, ("2", "3"), _STUDY_INSTANCE_UID, uid, "study")
        _details(study, {k: v for k, v in detail.items() if k != "study_instance_uids"})
        sop_classes = line.detail.get("sop_classes", {})
        if sop_classes:
            description = SubElement(study, "ParticipantObjectDescription")
            for sop_class_uid, count in sop_classes.items():
                SubElement(
                    description,
                    "SOPClass",
                    UID=_text(sop_class_uid),
                    NumberOfInstances=str(count),
                )
    for patient in dict.fromkeys(source.patient_of(uid) for uid in uids):
        _object(message, ("1", "1"), _PATIENT_NUMBER, patient, "withheld", _RFC_3881)
    if kind.event is _LOG_USED:
        uri = f"lungwatch://{source.host}/audit"
        log = _object(message, ("2", "13"), _URI, uri, "Security Audit Log", _RFC_3881)
        _details(log, detail)
    elif kind.event is _ALERT:
        subject = f"{source.ae_title}@{source.host}"
        alert = _object(message, ("2", "13"), _NODE_ID, subject, line.action.value)
        _details(alert, {"Alert Description": line.action.value.replace("_", " "), **detail})


def _object(
    message: Element,
    type_and_role: tuple[str, str],
    id_type: _Code,
    identifier: str,
    name: str,
    system: str = _DCM,
) -> Element:
    found = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(identifier),
        ParticipantObjectTypeCode=type_and_role[0],
        ParticipantObjectTypeCodeRole=type_and_role[1],
    )
    _code(found, "ParticipantObjectIDTypeCode", id_type, system)
    SubElement(found, "ParticipantObjectName").text = _text(name)
    return found


def _details(parent: Element, detail: Mapping[str, object]) -> None:
    for name, value in detail.items():
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        encoded = base64.b64encode(text.encode()).decode()
        SubElement(parent, "ParticipantObjectDetail", type=_text(name), value=encoded)


def _code(parent: Element, name: str, code: _Code, system: str = _DCM) -> None:
    value, meaning = code
    SubElement(parent, name, {"csd-code": value, "codeSystemName": system, "originalText": meaning})


def _text(value: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", value)


def _is_ip_address(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
