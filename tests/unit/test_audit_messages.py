"""Audit messages: every action in the schema of PS3.15 section A.5, and the tables of A.5.3."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, fromstring

import pytest
from support.audit_message_schema import violations

from worker.audit.messages import AuditSource, dicom_message
from worker.audit_entry import ActorKind, AuditAction, AuditOutcome
from worker.db.tables import AuditEvent

_STUDY = "1.2.840.99.1"
_CT = "1.2.840.10008.5.1.4.1.1.2"
_SOURCE = AuditSource("LUNGWATCH", "screening-1", "St. Mary's & Sons", lambda uid: f"P-{uid[-1]}")
_OF_STUDIES = {
    AuditAction.STUDY_RECEIVED: {"sop_classes": {_CT: 120}},
    AuditAction.STUDY_SCREENED: {"revision": 1},
    AuditAction.RESULT_SENT: {"destination": "PACS", "sop_classes": {_CT: 2}},
    AuditAction.STUDY_REVIEWED: {"decision": "accepted"},
    AuditAction.STUDY_REQUEUED: {"rescreen": True},
    AuditAction.PATIENT_SHOWN: {},
    AuditAction.STUDIES_CLEANED: {"why": "delivered", "bytes": 4096},
}


def _line(action: AuditAction, **facts) -> AuditEvent:
    kind = {
        AuditAction.STUDY_RECEIVED: ActorKind.APPLICATION,
        AuditAction.CALLER_ADMITTED: ActorKind.APPLICATION,
        AuditAction.ASSOCIATION_REJECTED: ActorKind.APPLICATION,
        AuditAction.STUDY_SCREENED: ActorKind.PROCESS,
        AuditAction.RESULT_SENT: ActorKind.PROCESS,
    }.get(action, ActorKind.PERSON)
    content = {
        "number": 7,
        "at": datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC),
        "action": action,
        "outcome": AuditOutcome.SUCCESS,
        "actor_kind": kind,
        "actor": "MODALITY" if kind is ActorKind.APPLICATION else "alice",
        "source": "192.0.2.7" if kind is ActorKind.APPLICATION else "ward-7",
        "study_instance_uid": _STUDY if action in _OF_STUDIES else None,
        "detail": _OF_STUDIES.get(action, {"number": 3}),
    }
    return AuditEvent(**{**content, **facts})


def _message(action: AuditAction, **facts) -> Element:
    text = dicom_message(_line(action, **facts), _SOURCE)
    assert "\n" not in text
    message = fromstring(text)  # noqa: S314 - our own
    assert violations(message) == []
    return message


def _codes(message: Element, path: str) -> list[str]:
    return [element.get("csd-code", "") for element in message.findall(path)]


@pytest.mark.parametrize("action", AuditAction)
def test_every_action_makes_a_message_of_the_schema(action):
    message = _message(action)
    assert _codes(message, "EventIdentification/EventID")
    (requestor,) = message.findall("ActiveParticipant[@UserIsRequestor='true']")
    assert requestor.get("UserID") in {"MODALITY", "alice@ward-7"}
    event = message.find("EventIdentification")
    assert event.get("EventDateTime") == "2026-05-04T03:02:01.123+00:00"
    assert event.get("EventOutcomeIndicator") == "0"
    source = message.find("AuditSourceIdentification")
    assert source.get("AuditSourceID") == "LUNGWATCH@screening-1"
    assert source.get("AuditEnterpriseSiteID") == "St. Mary's & Sons"


@pytest.mark.parametrize("action", _OF_STUDIES)
def test_what_is_done_to_a_study_names_study_and_patient(action):
    message = _message(action)
    objects = {
        element.find("ParticipantObjectIDTypeCode").get("csd-code"): element
        for element in message.findall("ParticipantObjectIdentification")
    }
    assert objects["110180"].get("ParticipantObjectID") == _STUDY
    assert objects["110180"].get("ParticipantObjectTypeCodeRole") == "3"
    assert objects["2"].get("ParticipantObjectID") == "P-1"
    assert objects["2"].get("ParticipantObjectTypeCodeRole") == "1"


def test_a_transfer_names_both_ends_and_what_was_transferred():
    message = _message(AuditAction.STUDY_RECEIVED)
    assert _codes(message, "EventIdentification/EventID") == ["110104"]
    ends = {
        participant.find("RoleIDCode").get("csd-code"): participant
        for participant in message.findall("ActiveParticipant")
    }
    assert ends["110153"].get("AlternativeUserID") == "AETITLES=MODALITY"
    assert ends["110153"].get("NetworkAccessPointID") == "192.0.2.7"
    assert ends["110153"].get("NetworkAccessPointTypeCode") == "2"
    assert ends["110152"].get("AlternativeUserID") == "AETITLES=LUNGWATCH"
    sop_class = message.find(".//SOPClass")
    assert (sop_class.get("UID"), sop_class.get("NumberOfInstances")) == (_CT, "120")
    sent = _message(AuditAction.RESULT_SENT)
    assert sent.findall("ActiveParticipant")[1].get("UserID") == "PACS"


def test_starts_and_alerts_carry_their_types():
    started = _message(AuditAction.APPLICATION_STARTED)
    assert _codes(started, "EventIdentification/EventTypeCode") == ["110120"]
    assert _codes(started, "ActiveParticipant/RoleIDCode") == ["110150"]
    alert = _message(
        AuditAction.ASSOCIATION_REJECTED,
        outcome=AuditOutcome.SERIOUS_FAILURE,
        detail={"reason": "calling_ae_not_allowed"},
    )
    assert _codes(alert, "EventIdentification/EventID") == ["110113"]
    assert _codes(alert, "EventIdentification/EventTypeCode") == ["110126"]
    assert alert.find("EventIdentification").get("EventOutcomeIndicator") == "8"
    details = {
        element.get("type"): base64.b64decode(element.get("value")).decode()
        for element in alert.findall(".//ParticipantObjectDetail")
    }
    assert details["Alert Description"] == "association rejected"
    assert details["reason"] == "calling_ae_not_allowed"


@pytest.mark.parametrize("action", AuditAction)
@pytest.mark.parametrize(
    ("outcome", "indicator"),
    [
        (AuditOutcome.MINOR_FAILURE, "4"),
        (AuditOutcome.SERIOUS_FAILURE, "8"),
        (AuditOutcome.MAJOR_FAILURE, "12"),
    ],
)
def test_a_failure_says_how_bad_it_is_and_of_what_kind(action, outcome, indicator):
    # An act may fail before its study is known.
    detail = {**_OF_STUDIES.get(action, {}), "error": "NotFoundError"}
    message = _message(action, outcome=outcome, detail=detail, study_instance_uid=None)
    event = message.find("EventIdentification")
    assert event.get("EventOutcomeIndicator") == indicator
    described = event.findtext("EventOutcomeDescription")
    assert described == f"{action.value}: NotFoundError"


def test_an_export_names_every_study():
    message = _message(
        AuditAction.REVIEWED_EXPORTED, detail={"study_instance_uids": ["1.2.3", "1.2.4"]}
    )
    ids = [e.get("ParticipantObjectID") for e in message.findall("ParticipantObjectIdentification")]
    assert ids == ["1.2.3", "1.2.4", "P-3", "P-4"]


def test_bytes_that_xml_has_no_place_for_are_replaced():
    message = _message(AuditAction.ASSOCIATION_REJECTED, actor="EVIL\x00\x1b[2J<&\ud800")
    assert message.find("ActiveParticipant").get("UserID") == "EVIL\ufffd\ufffd[2J<&\ufffd"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: m.remove(m.find("AuditSourceIdentification")), "AuditMessage holds"),
        (lambda m: m.find("EventIdentification").set("EventOutcomeIndicator", "5"), "Indicator"),
        (lambda m: m.find("ActiveParticipant").attrib.pop("UserID"), "lacks UserID"),
        (lambda m: m.find(".//EventID").attrib.pop("originalText"), "lacks originalText"),
        (lambda m: m.insert(0, m.find("ActiveParticipant")), "AuditMessage holds"),
        (lambda m: m.set("version", "1"), "has an attribute version"),
    ],
)
def test_the_checks_of_the_schema_find_what_it_forbids(spoil, said):
    message = _message(AuditAction.STUDY_RECEIVED)
    spoil(message)
    assert any(said in violation for violation in violations(message))
