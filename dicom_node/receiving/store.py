"""C-STORE: an instance is answered with success once it is durable in the spool."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from pynetdicom.pdu import P_DATA_TF

from dicom_node.errors import SpoolError
from dicom_node.reasons import Reason
from dicom_node.receiving.data_set import FiledDataSet, RefusedDataSet
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

# Slices of a CT are shorter and stay in memory; two of them may wait for their answers in each
# association while a third arrives.
_LARGEST_IN_MEMORY = 1 << 20
_NO_ROOM = (EdgeReason.OUT_OF_RESOURCES, "The spool's file system is full up to its watermark.")


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

    def on_pdu(self, event: Event) -> None:
        """Look at the data set that is arriving, so that memory stays bounded (EVT_PDU_RECV).

        A long one goes into a file; one that is too long, or finds no room on the disk, is let
        go at once. The sender gets its status when it has sent all.
        """
        message = event.assoc.dimse.message
        if message is None or not isinstance(event.pdu, P_DATA_TF):
            return
        arriving = cast("BytesIO", message.data_set)
        if arriving.tell() <= _LARGEST_IN_MEMORY:
            return
        try:
            refused = self._refusal(arriving)
            if refused is None and not isinstance(arriving, FiledDataSet):
                message.data_set = self._spool.file(arriving)
        except SpoolError:
            logger.exception("an instance was not stored")
            refused = RefusedDataSet(StorageStatus.OUT_OF_RESOURCES, *_NO_ROOM)
        if refused is not None:
            arriving.close()
            message.data_set = refused

    def on_store(self, event: Event) -> int:
        """Answer a C-STORE (EVT_C_STORE; PS3.4 section B.2.3)."""
        with cast("BytesIO", cast("C_STORE", event.request).DataSet) as data_set:
            return int(self._store(event, data_set))

    def _store(self, event: Event, data_set: BytesIO) -> StorageStatus:
        request = cast("C_STORE", event.request)
        sop_class = str(request.AffectedSOPClassUID)
        try:
            refused = data_set if isinstance(data_set, RefusedDataSet) else self._refusal(data_set)
            if refused is not None:
                self._note(event.assoc, refused.reason, refused.detail, sop_class)
                return refused.status
            self._spool.store(
                data_set,
                sop_class_uid=sop_class,
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=event.context.transfer_syntax,
                calling_ae_title=event.assoc.requestor.ae_title,
                called_ae_title=self._config.ae_title,
            )
        except SpoolError:
            logger.exception("an instance was not stored")
            return StorageStatus.OUT_OF_RESOURCES
        self._wake_intake()
        return StorageStatus.SUCCESS

    def _refusal(self, data_set: BytesIO) -> RefusedDataSet | None:
        """Refuse what is too long, or what would fill the disk beyond the watermark.

        One that lies in a file is copied behind its file meta information, so that it too needs
        room for as long as it is.
        """
        size, limit = data_set.tell(), self._config.maximum_instance_bytes
        if size > limit:
            detail = f"The instance is larger than {limit} bytes."
            return RefusedDataSet(StorageStatus.CANNOT_UNDERSTAND, Reason.TOO_LARGE, detail)
        if self._spool.free_bytes() - size < self._config.minimum_free_bytes:
            return RefusedDataSet(StorageStatus.OUT_OF_RESOURCES, *_NO_ROOM)
        return None

    def _wake_intake(self) -> None:
        if self._on_received is None:
            return
        try:
            self._on_received()
        except Exception:  # whatever it is, the instance is durable and the answer is success
            logger.exception("the intake could not be woken")
