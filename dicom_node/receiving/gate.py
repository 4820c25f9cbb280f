"""Who comes in: each caller is judged by its AE titles, its address and its certificate."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dicom_node.errors import SpoolError
from dicom_node.receiving.association_request import AssociationRequest, rejection
from dicom_node.receiving.refusals import EdgeReason, RefusalNote
from dicom_node.senders import Admission, admit, parse_address
from dicom_node.tls import peer_certificate, server_context, why_it_failed

if TYPE_CHECKING:
    from dicom_node.config import ListenerConfig
    from dicom_node.receiving.places import Place, Places
    from dicom_node.receiving.spool import Spool
    from dicom_node.tls import Certificate

logger = logging.getLogger(__name__)

# (result, source, reason) of an A-ASSOCIATE-RJ (PS3.8 section 9.3.4). Whoever may not come in is
# told one thing, whatever it was that did not fit: the note has the rest.
_CALLING_AE_NOT_RECOGNISED = (1, 1, 3)
_CALLED_AE_NOT_RECOGNISED = (1, 1, 7)
_LOCAL_LIMIT_EXCEEDED = (2, 3, 2)

_TURNED_AWAY = {
    Admission.WRONG_AE_TITLE: (
        EdgeReason.CALLING_AE_NOT_ALLOWED,
        "The calling AE title is not on the list.",
    ),
    Admission.WRONG_ADDRESS: (
        EdgeReason.ADDRESS_NOT_ALLOWED,
        "The calling AE title is bound to another address.",
    ),
    Admission.WRONG_CERTIFICATE: (
        EdgeReason.CERTIFICATE_NOT_ALLOWED,
        "The calling AE title is bound to another certificate.",
    ),
}
_NOBODY = AssociationRequest("", "")


class Gate:
    """Decides who comes in, and notes who does not.

    Parameters
    ----------
    config
        Who may, and our AE title.
    spool
        Where notes go.

    Raises
    ------
    ConfigurationError
        If the files of TLS cannot be used.
    """

    def __init__(self, config: ListenerConfig, spool: Spool) -> None:
        self._ae_title = config.ae_title
        self._senders = config.senders
        self._spool = spool
        self.tls = server_context(config.tls) if config.tls else None

    def judge(self, request: AssociationRequest, place: Place) -> bytes | None:
        """Judge a caller; the answer is the PDU that rejects it, None where it may come in."""
        shown = _certificate(place)
        admission = admit(
            self._senders, request.calling_ae_title, parse_address(place.address), shown
        )
        if admission is not Admission.ADMITTED:
            reason, detail = _TURNED_AWAY[admission]
            self.note(request, place.address, reason, detail)
            return rejection(*_CALLING_AE_NOT_RECOGNISED)
        if request.called_ae_title != self._ae_title:
            reason, detail = EdgeReason.CALLED_AE_NOT_RECOGNISED, "The called AE title is not ours."
            self.note(request, place.address, reason, detail)
            return rejection(*_CALLED_AE_NOT_RECOGNISED)
        return None

    def seat(self, request: AssociationRequest, place: Place, places: Places) -> bytes | None:
        """Give a caller that may come in its association, or the PDU that puts it off."""
        limit = places.associate(place)
        if limit is None:
            self._note_admission(request, place)
            return None
        self.note(request, place.address, EdgeReason.TOO_MANY_ASSOCIATIONS, limit)
        return rejection(*_LOCAL_LIMIT_EXCEEDED)

    def _note_admission(self, request: AssociationRequest, place: Place) -> None:
        shown = _certificate(place)
        try:
            self._spool.admissions.admit(
                request.calling_ae_title, place.address, shown.fingerprint if shown else None
            )
        except OSError:
            logger.exception("an admission was not noted")

    def note_crowd(self, address: str) -> None:
        """Note that a connection was closed since its address had too many waiting."""
        detail = "More connections waited without an association than there may be."
        self.note(_NOBODY, address, EdgeReason.TOO_MANY_CONNECTIONS, detail)

    def note_silence(self, address: str) -> None:
        """Note a connection whose A-ASSOCIATE-RQ did not come in time."""
        detail = "No whole A-ASSOCIATE-RQ came in time."
        self.note(_NOBODY, address, EdgeReason.NO_ASSOCIATION_REQUEST, detail)

    def note_no_request(self, address: str, why: str) -> None:
        """Note a connection that began with something else than an A-ASSOCIATE-RQ."""
        detail = f"Closed: {why}."
        self.note(_NOBODY, address, EdgeReason.NO_ASSOCIATION_REQUEST, detail)

    def note_no_tls(self, address: str, error: OSError) -> None:
        """Note a TLS handshake that failed."""
        detail = f"The TLS handshake failed: {why_it_failed(error)}."
        self.note(_NOBODY, address, EdgeReason.TLS_HANDSHAKE_FAILED, detail)

    def note(
        self,
        request: AssociationRequest,
        address: str,
        reason: str,
        detail: str,
        *,
        sop_class_uid: str | None = None,
        transfer_syntax_uids: tuple[str, ...] = (),
    ) -> None:
        """Leave a note for the event log, unless the caller has had its share of them."""
        note = RefusalNote(
            time=datetime.now(UTC),
            reason=str(reason),
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer_address=address,
            detail=detail,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uids=transfer_syntax_uids,
        )
        try:
            noted = self._spool.note_refusal(note)
        except SpoolError:
            logger.exception("a refusal was not noted")
            return
        if noted:
            logger.warning(
                "refused %s from %s at %s: %s",
                note.reason,
                note.calling_ae_title or "a caller",
                address,
                detail,
            )


def _certificate(place: Place) -> Certificate | None:
    connection = place.connection
    return peer_certificate(connection) if isinstance(connection, ssl.SSLSocket) else None
