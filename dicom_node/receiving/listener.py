"""The listener: C-ECHO and C-STORE SCP that answers success only for what is durable."""

from __future__ import annotations

import logging
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.pdu_primitives import A_ASSOCIATE

from dicom_node.contexts import VERIFICATION, accepted_contexts, sop_class_name
from dicom_node.errors import ConfigurationError, SpoolError
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason, RefusalNote
from dicom_node.status import StorageStatus
from dicom_node.transport import guard_incoming, keep_data_sets_out_of_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from io import BytesIO

    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event
    from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

    from dicom_node.config import ListenerConfig
    from dicom_node.receiving.spool import Spool

logger = logging.getLogger(__name__)

# (source, diagnostic) of an A-ASSOCIATE-RJ (PS3.8 section 9.3.4).
_REJECTIONS = {
    (1, 3): (EdgeReason.CALLING_AE_NOT_ALLOWED, "The calling AE title is not on the list."),
    (1, 7): (EdgeReason.CALLED_AE_NOT_RECOGNISED, "The called AE title is not ours."),
    (3, 2): (EdgeReason.TOO_MANY_ASSOCIATIONS, "All associations are in use."),
}
_ABSTRACT_SYNTAX_NOT_SUPPORTED = 0x03


class Listener:
    """Verification and Storage SCP over one spool.

    Parameters
    ----------
    config
        Where to listen and whom to serve.
    spool
        Where instances go.
    on_received
        Called in the association's thread after an instance became durable: a wake-up for the
        intake, nothing more. What it raises is logged and changes no answer.
    """

    def __init__(
        self, config: ListenerConfig, spool: Spool, on_received: Callable[[], None] | None = None
    ) -> None:
        self._config = config
        self._spool = spool
        self._on_received = on_received
        self._server: ThreadedAssociationServer | None = None
        # Associations whose current C-STORE has outgrown the limit; only their own threads
        # touch their entries.
        self._oversized: weakref.WeakSet[Association] = weakref.WeakSet()

    def start(self) -> None:
        """Prepare the spool and listen, in threads of this process.

        Raises
        ------
        ConfigurationError
            If the address cannot be bound.
        SpoolError
            If the spool cannot be used.
        """
        orphans = self._spool.prepare()
        if orphans:
            logger.warning("removed %d half-written files of an earlier run", orphans)
        keep_data_sets_out_of_logs()
        address = (self._config.host, self._config.port)
        try:
            self._server = self._application_entity().start_server(
                address,
                block=False,
                contexts=accepted_contexts(),
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._on_connection),
                    (evt.EVT_ACSE_SENT, self._on_association_message),
                    (evt.EVT_ESTABLISHED, self._on_established),
                    (evt.EVT_PDU_RECV, self._on_pdu),
                    (evt.EVT_C_ECHO, lambda _event: int(StorageStatus.SUCCESS)),
                    (evt.EVT_C_STORE, self._on_store),
                ],
            )
        except OSError as error:
            msg = f"host {address[0]} and port {address[1]} cannot be bound: {error.strerror}."
            raise ConfigurationError(msg) from error

    @property
    def port(self) -> int:
        """The port that is listened on, also where port 0 was asked for."""
        if self._server is None:
            return self._config.port
        return int(self._server.server_address[1])

    def stop(self, timeout: float = 30.0) -> None:
        """Take no more associations, let the running ones finish, then abort what is left.

        Parameters
        ----------
        timeout
            Seconds the running associations are given. An instance whose success was not yet
            answered is sent again by its sender.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        deadline = time.monotonic() + timeout
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in server.active_associations:
            association.abort()

    def _application_entity(self) -> AE:
        config = self._config
        ae = AE(ae_title=config.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.require_called_aet = True
        ae.require_calling_aet = (
            [] if config.serves_everybody else sorted(config.allowed_calling_ae_titles)
        )
        ae.maximum_associations = config.maximum_associations
        ae.maximum_pdu_size = config.maximum_pdu_size
        ae.acse_timeout = config.acse_timeout
        ae.dimse_timeout = config.dimse_timeout
        ae.network_timeout = config.network_timeout
        return ae

    def _on_connection(self, event: Event) -> None:
        guard_incoming(event, self._config.maximum_pdu_size, self._config.network_timeout)

    def _on_association_message(self, event: Event) -> None:
        """Note a rejected association."""
        message = cast("Any", event).primitive
        if not isinstance(message, A_ASSOCIATE) or not message.result:
            return
        rejection = _REJECTIONS.get((message.result_source or 0, message.diagnostic or 0))
        if rejection is not None:
            reason, detail = rejection
            self._note(event.assoc, reason, detail)

    def _on_established(self, event: Event) -> None:
        """Note each SOP class of which a presentation context was refused.

        Senders propose what they hold, so a refused context most often means an object that
        will not come; nothing else tells.
        """
        refused = {context.context_id: context.result for context in event.assoc.rejected_contexts}
        proposed: dict[tuple[str, int], set[str]] = {}
        for context in event.assoc.requestor.requested_contexts:
            result = refused.get(context.context_id)
            if result is not None and context.abstract_syntax != VERIFICATION:
                syntaxes = proposed.setdefault((str(context.abstract_syntax), result), set())
                syntaxes.update(str(syntax) for syntax in context.transfer_syntax)
        for (sop_class_uid, result), syntaxes in proposed.items():
            name = sop_class_name(sop_class_uid)
            if result == _ABSTRACT_SYNTAX_NOT_SUPPORTED:
                reason: str = EdgeReason.SOP_CLASS_NOT_SUPPORTED
                detail = f"{name} is not accepted in any transfer syntax."
            else:
                reason = Reason.UNSUPPORTED_TRANSFER_SYNTAX
                detail = f"{name} is not accepted in the transfer syntaxes of one context."
            self._note(event.assoc, reason, detail, sop_class_uid, sorted(syntaxes))

    def _on_pdu(self, event: Event) -> None:
        """Let go of a data set that outgrows the limit while it arrives.

        The sender gets its status when it has sent all, and memory stays bounded until then.
        """
        message = event.assoc.dimse.message
        if message is None or not isinstance(event.pdu, P_DATA_TF):
            return
        received = cast("BytesIO", message.data_set)
        if received.tell() > self._config.maximum_instance_bytes:
            self._oversized.add(event.assoc)
            received.seek(0)
            received.truncate()

    def _on_store(self, event: Event) -> int:
        """Answer a C-STORE (PS3.4 section B.2.3)."""
        request = cast("C_STORE", event.request)
        dataset = cast("BytesIO", request.DataSet).getvalue()
        oversized = event.assoc in self._oversized
        self._oversized.discard(event.assoc)
        if oversized or len(dataset) > self._config.maximum_instance_bytes:
            limit = self._config.maximum_instance_bytes
            detail = f"The instance is larger than {limit} bytes."
            self._note(event.assoc, Reason.TOO_LARGE, detail, request.AffectedSOPClassUID)
            return int(StorageStatus.CANNOT_UNDERSTAND)
        try:
            if self._spool.free_bytes() - len(dataset) < self._config.minimum_free_bytes:
                detail = "The spool's file system is full up to its watermark."
                self._note(event.assoc, EdgeReason.OUT_OF_RESOURCES, detail)
                return int(StorageStatus.OUT_OF_RESOURCES)
            self._spool.store(
                dataset,
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=event.context.transfer_syntax,
                calling_ae_title=event.assoc.requestor.ae_title,
                called_ae_title=self._config.ae_title,
            )
        except SpoolError:
            logger.exception("an instance was not stored")
            return int(StorageStatus.OUT_OF_RESOURCES)
        self._wake_intake()
        return int(StorageStatus.SUCCESS)

    def _wake_intake(self) -> None:
        if self._on_received is None:
            return
        try:
            self._on_received()
        except Exception:  # whatever it is, the instance is durable and the answer is success
            logger.exception("the intake could not be woken")

    def _note(
        self,
        association: Association,
        reason: str,
        detail: str,
        sop_class_uid: str | None = None,
        transfer_syntax_uids: Iterable[str] = (),
    ) -> None:
        peer = association.requestor
        request = cast("A_ASSOCIATE", peer.primitive)
        address = cast("AddressInformation", peer.address_info)
        note = RefusalNote(
            time=datetime.now(UTC),
            reason=str(reason),
            calling_ae_title=str(peer.ae_title),
            called_ae_title=str(request.called_ae_title),
            peer_address=address.address,
            detail=detail,
            sop_class_uid=sop_class_uid and str(sop_class_uid),
            transfer_syntax_uids=tuple(transfer_syntax_uids),
        )
        logger.warning("refused %s from %s: %s", note.reason, note.calling_ae_title, detail)
        try:
            self._spool.note_refusal(note)
        except SpoolError:
            logger.exception("a refusal was not noted")
