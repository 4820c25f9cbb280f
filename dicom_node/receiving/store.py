"""C-STORE: an instance is answered with success once it is durable in the spool."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, cast

from pynetdicom.pdu import P_DATA_TF

from dicom_node.errors import SpoolError
from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason
from dicom_node.status import StorageStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import BytesIO

    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event

    from dicom_node.config import ListenerConfig
    from dicom_node.receiving.spool import Spool

logger = logging.getLogger(__name__)


class StoreProvider:
    """Storage SCP over one spool (PS3.4 annex B).

    Parameters
    ----------
    config
        Our AE title, the largest instance and the watermark.
    spool
        Where instances go.
    note
        Takes what was refused: the association, the coded reason, a sentence, the SOP class.
    on_received
        Called in the association's thread after an instance became durable: a wake-up for the
        intake, nothing more. What it raises is logged and changes no answer.
    """

    def __init__(
        self,
        config: ListenerConfig,
        spool: Spool,
        note: Callable[[Association, str, str, str | None], None],
        on_received: Callable[[], None] | None,
    ) -> None:
        self._config = config
        self._spool = spool
        self._note = note
        self._on_received = on_received
        # Associations whose current C-STORE has outgrown the limit; only their own threads
        # touch their entries.
        self._oversized: weakref.WeakSet[Association] = weakref.WeakSet()

    def on_pdu(self, event: Event) -> None:
        """Let go of a data set that outgrows the limit while it arrives (EVT_PDU_RECV).

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

    def on_store(self, event: Event) -> int:
        """Answer a C-STORE (EVT_C_STORE; PS3.4 section B.2.3)."""
        request = cast("C_STORE", event.request)
        dataset = cast("BytesIO", request.DataSet).getvalue()
        sop_class = str(request.AffectedSOPClassUID)
        oversized = event.assoc in self._oversized
        self._oversized.discard(event.assoc)
        if oversized or len(dataset) > self._config.maximum_instance_bytes:
            limit = self._config.maximum_instance_bytes
            detail = f"The instance is larger than {limit} bytes."
            self._note(event.assoc, Reason.TOO_LARGE, detail, sop_class)
            return int(StorageStatus.CANNOT_UNDERSTAND)
        try:
            if self._spool.free_bytes() - len(dataset) < self._config.minimum_free_bytes:
                detail = "The spool's file system is full up to its watermark."
                self._note(event.assoc, EdgeReason.OUT_OF_RESOURCES, detail, None)
                return int(StorageStatus.OUT_OF_RESOURCES)
            self._spool.store(
                dataset,
                sop_class_uid=sop_class,
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
