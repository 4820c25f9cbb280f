"""The audit message schema of PS3.15 section A.5.1, as checks of structure.

The standard gives it in RELAX NG; this says the same of each element: the attributes it has to and
may have, and what elements it holds, in order.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree.ElementTree import Element

_TOKEN = re.compile(r".+", re.DOTALL)
_BOOLEAN = re.compile("true|false|0|1")
_INTEGER = re.compile("[+-]?[0-9]+")
_EVENT_ACTIONS = re.compile("[CRUDE]")
_OUTCOMES = re.compile("0|4|8|12")


def _is_moment(value: str) -> bool:
    return datetime.fromisoformat(value).utcoffset() is not None


def _is_base64(value: str) -> bool:
    base64.b64decode(value, validate=True)
    return True


def _up_to(largest: int) -> re.Pattern[str]:
    return re.compile("|".join(str(number) for number in range(1, largest + 1)))


_Check = re.Pattern[str] | Callable[[str], bool]


@dataclass(frozen=True)
class _Shape:
    required: Mapping[str, _Check] = field(default_factory=dict)
    optional: Mapping[str, _Check] = field(default_factory=dict)
    children: str = ""  # A regular expression over the children's names, each followed by a space.
    text: bool = False


_CODED_VALUE = _Shape(
    {"csd-code": _TOKEN, "codeSystemName": _TOKEN, "originalText": _TOKEN}, {"displayName": _TOKEN}
)
_SHAPES = {
    "AuditMessage": _Shape(
        children="EventIdentification (ActiveParticipant )+AuditSourceIdentification "
        "(ParticipantObjectIdentification )*"
    ),
    "EventIdentification": _Shape(
        {"EventDateTime": _is_moment, "EventOutcomeIndicator": _OUTCOMES},
        {"EventActionCode": _EVENT_ACTIONS},
        "EventID (EventTypeCode )*(EventOutcomeDescription )?",
    ),
    "EventID": _CODED_VALUE,
    "EventTypeCode": _CODED_VALUE,
    "EventOutcomeDescription": _Shape(text=True),
    "ActiveParticipant": _Shape(
        {"UserID": _TOKEN, "UserIsRequestor": _BOOLEAN},
        {
            "AlternativeUserID": _TOKEN,
            "UserName": _TOKEN,
            "NetworkAccessPointID": _TOKEN,
            "NetworkAccessPointTypeCode": _up_to(5),
        },
        "(RoleIDCode )*(MediaIdentifier )?",
    ),
    "RoleIDCode": _CODED_VALUE,
    "AuditSourceIdentification": _Shape(
        {"AuditSourceID": _TOKEN}, {"AuditEnterpriseSiteID": _TOKEN}, "(AuditSourceTypeCode )*"
    ),
    "AuditSourceTypeCode": _Shape(
        {"csd-code": _TOKEN},
        {"codeSystemName": _TOKEN, "displayName": _TOKEN, "originalText": _TOKEN},
    ),
    "ParticipantObjectIdentification": _Shape(
        {"ParticipantObjectID": _TOKEN},
        {
            "ParticipantObjectTypeCode": _up_to(4),
            "ParticipantObjectTypeCodeRole": _up_to(26),
            "ParticipantObjectDataLifeCycle": _up_to(15),
            "ParticipantObjectSensitivity": _TOKEN,
        },
        "ParticipantObjectIDTypeCode (ParticipantObjectName |ParticipantObjectQuery )"
        "(ParticipantObjectDetail )*(ParticipantObjectDescription )*",
    ),
    "ParticipantObjectIDTypeCode": _CODED_VALUE,
    "ParticipantObjectName": _Shape(text=True),
    "ParticipantObjectQuery": _Shape(text=True),
    "ParticipantObjectDetail": _Shape({"type": _TOKEN, "value": _is_base64}),
    "ParticipantObjectDescription": _Shape(
        children="(MPPS )*(Accession )*(SOPClass )*(ParticipantObjectContainsStudy )?"
        "(Encrypted )?(Anonymized )?"
    ),
    "SOPClass": _Shape({"NumberOfInstances": _INTEGER}, {"UID": _TOKEN}, "(Instance )*"),
    "Instance": _Shape({"UID": _TOKEN}),
}


def violations(message: Element) -> list[str]:
    """List where a message is not what the schema allows."""
    found = [] if message.tag == "AuditMessage" else [f"the root is {message.tag}"]
    return found + [problem for element in message.iter() for problem in _of_element(element)]


def _of_element(element: Element) -> Iterator[str]:
    shape = _SHAPES.get(element.tag)
    if shape is None:
        yield f"{element.tag} is not known"
        return
    for name in shape.required.keys() - element.keys():
        yield f"{element.tag} lacks {name}"
    checks = {**shape.required, **shape.optional}
    for name, value in element.items():
        check = checks.get(name)
        if check is None:
            yield f"{element.tag} has an attribute {name}"
        elif not (check.fullmatch(value) if isinstance(check, re.Pattern) else check(value)):
            yield f"{element.tag} has {name} {value!r}"
    children = "".join(f"{child.tag} " for child in element)
    if not re.fullmatch(shape.children, children):
        yield f"{element.tag} holds {children or 'nothing'}"
    if (element.text or "").strip() and not shape.text:
        yield f"{element.tag} holds text"
