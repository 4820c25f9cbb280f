"""Whether the words of a series say chest, another part of the body, or nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dicom_node.errors import RefusedError
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from dicom_node.reading.header import InstanceHeader

# Prefixes, in the languages of the scanner protocols met so far; CAP and TAP are chest (thorax),
# abdomen and pelvis.
_CHEST = re.compile(
    r"CHEST|THORA|THOR\b|TORAX|TORSO|LUNG|PULMO|POUMON|PNEUMO"
    r"|WHOLE ?BODY|\bWB|\bCAP\b|\bTAP\b|\bHRCT\b|\bCTPA\b|COVID"
)
_ELSEWHERE = re.compile(
    r"\b(HEAD|BRAIN|SKULL|CRAN|CEREB|SINUS|ORBIT|FACE|FACIAL|DENTAL|TEMPORAL|IAC\b|NECK|CAROTID"
    r"|[CTL]?-?SPINE|LUMBAR|CERVICAL|SACRUM|ABD|PELVI|LIVER|KIDNEY|RENAL|UROGRAM|BLADDER|PROSTATE"
    r"|HIP|KNEE|ANKLE|FOOT|FEET|LEG|FEMUR|TIBIA|SHOULDER|ELBOW|WRIST|HAND|ARM|EXTREMIT)"
)


def check_region(header: InstanceHeader) -> None:
    """Refuse a series whose words place it outside the chest.

    Body Part Examined (PS3.16 annex L) decides where it names the chest. Where it names another
    part, a series description that says chest outweighs it: the attribute often describes the
    protocol as a whole. Where it is absent, the descriptions of series, protocol and study are
    asked; silence is accepted, for many senders leave all of them empty.

    Raises
    ------
    RefusedError
        NOT_CHEST, with the attribute and the word of our lists that was found in it: what else
        stands there may name the patient.
    """
    part = _words(header.body_part_examined)
    series = _words(header.series_description)
    if _CHEST.search(part) or _CHEST.search(series):
        return
    if part:
        named = _ELSEWHERE.search(part)
        what = f"names {named.group()!r}" if named else "does not name the chest"
        raise RefusedError(Reason.NOT_CHEST, f"body part examined {what}")
    around = {
        "protocol name": header.protocol_name,
        "study description": header.study_description,
    }
    if any(_CHEST.search(_words(description)) for description in around.values()):
        return
    for attribute, description in {"series description": series, **around}.items():
        if found := _ELSEWHERE.search(_words(description)):
            raise RefusedError(Reason.NOT_CHEST, f"{attribute} names {found.group()!r}")


def _words(text: str) -> str:
    return re.sub(r"[^A-Z0-9]+", " ", text.upper()).strip()
