"""Every state and every coded reason in words, and what a person can do about it.

One table for the CLI and for ``docs/reasons.md``; a test fails when a code has no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason
from worker.lifecycle import Progress, StudyState

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a coded reason means.

    Attributes
    ----------
    words
        A short phrase for tables.
    remedy
        What to do; empty where nothing needs doing.
    """

    words: str
    remedy: str = ""


STATES: Mapping[StudyState, str] = {
    StudyState.RECEIVING: "Instances are arriving; the study is complete after the settle time.",
    StudyState.QUEUED: "A series was chosen and waits for a free worker.",
    StudyState.SCREENING: "A worker reads the series, runs the network and encodes the results.",
    StudyState.DELIVERING: "The results are on their way to the destinations.",
    StudyState.COMPLETED: "Every destination has every result.",
    StudyState.REFUSED: "It holds CT, but nothing that can be screened; the reason says why.",
    StudyState.IGNORED: "It holds nothing to screen: reports only, or our own results.",
    StudyState.FAILED: "A person must look: the attempts ran out, or a destination refused.",
}

PROGRESS: Mapping[Progress, Explanation] = {
    Progress.WAITING_TO_SETTLE: Explanation("waiting for more instances"),
    Progress.WAITING_FOR_WORKER: Explanation(
        "waiting for a worker",
        "If it lasts, `lungwatch doctor` tells whether the broker answers; see that a worker runs.",
    ),
    Progress.WORKER_LOST: Explanation(
        "its worker was lost or failed; queued again",
        "Nothing, unless it repeats: then the worker's log has the cause, often too little memory.",
    ),
    Progress.IN_WORK: Explanation("in work"),
    Progress.WAITING_FOR_DESTINATION: Explanation("being sent to the destinations"),
    Progress.DESTINATION_UNAVAILABLE: Explanation(
        "a destination does not answer; tried again",
        "Check network and PACS (`lungwatch doctor`); it is sent by itself once the PACS answers.",
    ),
    Progress.DELIVERED: Explanation("results delivered"),
    Progress.NO_DESTINATION: Explanation(
        "screened; no destination is set",
        "Set LUNGWATCH_DESTINATIONS, start node and workers again, then `lungwatch studies "
        "requeue`.",
    ),
    Progress.DELIVERY_REFUSED: Explanation(
        "a destination refused a result",
        "The detail holds the PACS's answer: let it accept our AE title and the SOP classes of "
        "SEG, SR and secondary capture, then `lungwatch studies requeue`.",
    ),
    Progress.NOT_COMMITTED: Explanation(
        "a destination does not keep a result; sent again",
        "Nothing, unless it repeats: then the PACS's log tells why it does not keep the object.",
    ),
    Progress.ATTEMPTS_EXHAUSTED: Explanation(
        "screening failed too often",
        "The detail holds the last error. Mend its cause, then `lungwatch studies requeue`.",
    ),
    Progress.PROCESSING_ERROR: Explanation(
        "Lungwatch itself failed on it",
        "Nothing is lost. The node's log has the cause: please report it. Send the study again; "
        "one that has its own Study Instance UID, `lungwatch studies requeue` tries again too.",
    ),
    Progress.NOTHING_TO_SCREEN: Explanation("holds no CT to screen"),
    Progress.RECEIVED_AGAIN: Explanation("came again and could be read; see its own study"),
    Progress.REQUEUED: Explanation("queued again by a person"),
    Progress.IMAGES_CLEANED: Explanation(
        "new images came after the others were cleaned",
        "Send the whole study again: the new images alone would give another result.",
    ),
    Progress.FILES_LOST: Explanation(
        "its files were not there",
        "Send the study again; it is screened by itself.",
    ),
}

REASONS: Mapping[Reason, Explanation] = {
    Reason.NOT_CT: Explanation("not a CT image"),
    Reason.OWN_RESULT: Explanation("our own result came back"),
    Reason.NOT_PREFERRED: Explanation("another series of the study suits better"),
    Reason.LOCALIZER: Explanation("a localizer"),
    Reason.DERIVED_IMAGE: Explanation(
        "a derived image, such as a projection", "Send the original axial series."
    ),
    Reason.NOT_AXIAL: Explanation("not axial", "Send the axial series, not a reformat."),
    Reason.NOT_CHEST: Explanation(
        "not a chest, or too short for one",
        "Narrow the routing rule to chest CT; if the transfer broke off, send the study again. The "
        "shortest extent screened is LUNGWATCH_MINIMUM_COVERAGE_MM.",
    ),
    Reason.NO_LUNG: Explanation(
        "no lung found", "Look at the series: it may not cover the lungs, or its values are no HU."
    ),
    Reason.TOO_FEW_SLICES: Explanation(
        "too few slices",
        "If the transfer broke off, send the study again. The fewest slices screened are "
        "LUNGWATCH_MINIMUM_SLICES.",
    ),
    Reason.MISSING_GEOMETRY: Explanation(
        "position, orientation or pixel spacing is missing", "Send the series from its modality."
    ),
    Reason.MIXED_ORIENTATIONS: Explanation(
        "slices of different orientation in one series", "Send the orientations as series apart."
    ),
    Reason.GANTRY_TILT: Explanation(
        "gantry tilt", "None: volumes measured on a tilted series would be wrong."
    ),
    Reason.MISSING_SLICES: Explanation(
        "slices are missing", "Send the study again: late slices make a new revision."
    ),
    Reason.IRREGULAR_SPACING: Explanation(
        "irregular slice spacing", "Send a reconstruction with even spacing."
    ),
    Reason.CONFLICTING_DUPLICATES: Explanation(
        "different images at one position, or objects under one UID",
        "Find out at the source which is right; we do not guess.",
    ),
    Reason.MISSING_RESCALE: Explanation(
        "no rescale slope or intercept, so no Hounsfield units",
        "Send the series from its modality.",
    ),
    Reason.UNSUPPORTED_TRANSFER_SYNTAX: Explanation(
        "compressed in a way we do not read",
        "Let the PACS send uncompressed or losslessly compressed (docs/conformance.md).",
    ),
    Reason.UNDECODABLE_PIXELS: Explanation(
        "pixel data cannot be decoded",
        "Send the study again; if it repeats, the source is damaged.",
    ),
    Reason.SHORT_PIXEL_DATA: Explanation(
        "pixel data is shorter than declared", "Send the study again: the file was cut off."
    ),
    Reason.TOO_LARGE: Explanation(
        "larger than any CT we accept", "Check what the PACS routes here."
    ),
    Reason.DECODER_FAILED: Explanation(
        "reading it crashed, or took more memory or time than it may",
        "Nothing else was harmed. Check the object at its source; if other software reads it, "
        "please report it. Send the study again; one that has its own Study Instance UID, "
        "`lungwatch studies requeue` tries again too.",
    ),
    Reason.SPOOL_DAMAGED: Explanation(
        "what lies in the spool is not what was received",
        "Check the disk of the data folder, then send the study again: the damaged instances are "
        "replaced and it is screened.",
    ),
    Reason.NOT_DICOM: Explanation("not DICOM"),
    Reason.MISSING_ATTRIBUTES: Explanation(
        "attributes are missing that every CT image must have", "Send the series from its modality."
    ),
}

EDGE_REASONS: Mapping[EdgeReason, Explanation] = {
    EdgeReason.CALLING_AE_NOT_ALLOWED: Explanation(
        "the calling AE title is not on the list",
        "If it may send, add it to LUNGWATCH_ALLOWED_CALLING_AE_TITLES and start the node again.",
    ),
    EdgeReason.ADDRESS_NOT_ALLOWED: Explanation(
        "the calling AE title is bound to another address",
        "If the sender has moved, correct its address in LUNGWATCH_ALLOWED_CALLING_AE_TITLES and "
        "start the node again. If not, find out who used its AE title.",
    ),
    EdgeReason.CERTIFICATE_NOT_ALLOWED: Explanation(
        "the calling AE title is bound to another certificate",
        "If the sender has a new certificate, correct its entry in "
        "LUNGWATCH_ALLOWED_CALLING_AE_TITLES and start the node again. If not, find out who used "
        "its AE title.",
    ),
    EdgeReason.CALLED_AE_NOT_RECOGNISED: Explanation(
        "another AE title than ours was called",
        "Let the sender call our AE title, LUNGWATCH_AE_TITLE.",
    ),
    EdgeReason.TOO_MANY_ASSOCIATIONS: Explanation(
        "all associations were in use",
        "If senders do not try again, raise LUNGWATCH_MAXIMUM_ASSOCIATIONS or, where one sender "
        "may have more of them, LUNGWATCH_MAXIMUM_ASSOCIATIONS_PER_ADDRESS.",
    ),
    EdgeReason.TOO_MANY_CONNECTIONS: Explanation(
        "too many connections waited without an association",
        "Find out what at that address opens connections and does not use them.",
    ),
    EdgeReason.NO_ASSOCIATION_REQUEST: Explanation(
        "a connection without a proper A-ASSOCIATE-RQ",
        "If a sender is at that address: does it use TLS where we do not? Else it is a port scan, "
        "a health check that stays, or a fault of the network.",
    ),
    EdgeReason.TLS_HANDSHAKE_FAILED: Explanation(
        "no TLS connection came about",
        "The detail holds the cause. Let the sender use TLS 1.2 or 1.3 and a valid certificate of "
        "an authority in LUNGWATCH_TLS_AUTHORITIES, and let it believe ours.",
    ),
    EdgeReason.SOP_CLASS_NOT_SUPPORTED: Explanation(
        "a SOP class we do not accept was proposed",
        "Every storage SOP class of the standard is accepted; let the sender leave this one out "
        "(docs/conformance.md).",
    ),
    EdgeReason.OUT_OF_RESOURCES: Explanation(
        "too little disk was free",
        "Make room in the data folder: above LUNGWATCH_MINIMUM_FREE_MB accepting goes on.",
    ),
}


_BY_CODE: Mapping[str, Explanation] = {
    code.value: explanation
    for explanations in (PROGRESS, REASONS, EDGE_REASONS)
    for code, explanation in explanations.items()
}


def explain(code: str | None) -> Explanation:
    """Tell what a coded reason means.

    Parameters
    ----------
    code
        Value of a `Reason`, a `Progress` or an `EdgeReason`; None or an unknown one (of a newer
        version, say) explains itself.
    """
    if not code:
        return Explanation("")
    return _BY_CODE.get(code, Explanation(code.replace("_", " ")))
