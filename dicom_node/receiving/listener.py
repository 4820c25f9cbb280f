"""The listener: C-ECHO and C-STORE SCP that answers success only for what is durable."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from pynetdicom import AE, evt

from dicom_node.contexts import VERIFICATION, accepted_contexts, sop_class_name
from dicom_node.errors import ConfigurationError
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.reasons import Reason
from dicom_node.receiving.association_request import AssociationRequest
from dicom_node.receiving.commitment_reports import (
    CommitmentReports,
    commitment_context,
    report_handler,
)
from dicom_node.receiving.gate import Gate
from dicom_node.receiving.heap import keep_heap_small
from dicom_node.receiving.refusals import EdgeReason
from dicom_node.receiving.server import GuardedServer
from dicom_node.receiving.store import StoreProvider
from dicom_node.status import StorageStatus
from dicom_node.transport import keep_data_sets_out_of_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.transport import AddressInformation

    from dicom_node.config import ListenerConfig
    from dicom_node.receiving.spool import Spool

logger = logging.getLogger(__name__)

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
        As of `StoreProvider`.

    Raises
    ------
    ConfigurationError
        If the files of TLS cannot be used.
    """

    def __init__(
        self, config: ListenerConfig, spool: Spool, on_received: Callable[[], None] | None = None
    ) -> None:
        self._config = config
        self._spool = spool
        self._gate = Gate(config, spool)
        self._store = StoreProvider(config, spool, self._note, on_received)
        self._reports = CommitmentReports(config.spool_dir, config.minimum_free_bytes)
        self._server: GuardedServer | None = None

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
        keep_heap_small()
        try:
            self._server = GuardedServer(
                self._application_entity(),
                self._config,
                self._gate,
                [*accepted_contexts(), commitment_context()],
                [
                    (evt.EVT_ESTABLISHED, self._on_established),
                    (evt.EVT_PDU_RECV, self._store.on_pdu),
                    (evt.EVT_C_ECHO, lambda _event: int(StorageStatus.SUCCESS)),
                    (evt.EVT_C_STORE, self._store.on_store),
                    (evt.EVT_N_EVENT_REPORT, report_handler(self._reports.write)),
                ],
            )
        except OSError as error:
            msg = (
                f"host {self._config.host} and port {self._config.port} cannot be bound: "
                f"{error.strerror}."
            )
            raise ConfigurationError(msg) from error
        self._server.start()

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
        if server is not None:
            server.stop(timeout)

    def _application_entity(self) -> AE:
        """Name us and set the time limits; who comes in, and how many, is the gate's."""
        config = self._config
        ae = AE(ae_title=config.ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # pynetdicom counts associations that are over and not yet cleared away.
        ae.maximum_associations = 8 * config.maximum_associations
        ae.maximum_pdu_size = config.maximum_pdu_size
        ae.acse_timeout = config.acse_timeout
        ae.dimse_timeout = config.dimse_timeout
        ae.network_timeout = config.network_timeout
        return ae

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
            self._note(event.assoc, reason, detail, sop_class_uid, tuple(sorted(syntaxes)))

    def _note(
        self,
        association: Association,
        reason: str,
        detail: str,
        sop_class_uid: str | None = None,
        transfer_syntax_uids: tuple[str, ...] = (),
    ) -> None:
        peer = association.requestor
        called = cast("A_ASSOCIATE", peer.primitive).called_ae_title
        self._gate.note(
            AssociationRequest(str(peer.ae_title), str(called)),
            cast("AddressInformation", peer.address_info).address,
            reason,
            detail,
            sop_class_uid=sop_class_uid,
            transfer_syntax_uids=transfer_syntax_uids,
        )
