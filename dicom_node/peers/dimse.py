"""C-STORE SCU: sends objects to a PACS over one association."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from dicom_node.contexts import RESULT_TRANSFER_SYNTAXES, VERIFICATION
from dicom_node.errors import PeerNotReadyError, PeerRefusedError, PeerUnavailableError
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.peers.contract import OutgoingObject, StoreOutcome, outcome_of
from dicom_node.peers.retry import RetryingPeer
from dicom_node.status import StorageStatus, StoreVerdict
from dicom_node.transport import keep_data_sets_out_of_logs, set_no_delay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydicom import FileDataset
    from pynetdicom.association import Association
    from pynetdicom.pdu_primitives import A_ASSOCIATE
    from pynetdicom.presentation import PresentationContext

    from dicom_node.config import DimseDestination

_REJECTED_TRANSIENT = 0x02


class DimsePeer(RetryingPeer):
    """A storage SCP: C-ECHO, and C-STORE over one association (PS3.4 Annexes A and B).

    Parameters
    ----------
    destination
        Where it is and how it is called.
    """

    def __init__(self, destination: DimseDestination) -> None:
        self._destination = destination

    def _echo(self) -> None:
        with self._associate([build_context(VERIFICATION, list(RESULT_TRANSFER_SYNTAXES))]) as link:
            response = link.send_c_echo()
            if "Status" not in response:
                raise PeerUnavailableError(self._describe("did not answer the C-ECHO"))
            if response.Status != StorageStatus.SUCCESS:
                msg = self._describe(f"answered the C-ECHO with status 0x{response.Status:04X}")
                raise PeerRefusedError(msg)

    def _store(
        self, objects: Sequence[OutgoingObject], datasets: Sequence[FileDataset]
    ) -> list[StoreOutcome]:
        outcomes: list[StoreOutcome] = []
        with self._associate(_contexts_for(datasets)) as link:
            for item, dataset in zip(objects, datasets, strict=True):
                uid = item.sop_instance_uid
                if outcomes and not outcomes[-1].answered:
                    # pynetdicom may not have noticed yet, and would wait for the whole timeout.
                    outcomes.append(_unanswered(uid, "the association ended before this object"))
                else:
                    outcomes.append(_send(link, uid, dataset, len(outcomes) + 1))
        if not any(outcome.answered for outcome in outcomes):
            raise PeerUnavailableError(self._describe("went away before it answered"))
        return outcomes

    @contextmanager
    def _associate(self, contexts: list[PresentationContext]) -> Iterator[Association]:
        """Open an association, and release it in the end."""
        destination = self._destination
        keep_data_sets_out_of_logs()
        ae = AE(ae_title=destination.calling_ae_title)
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.connection_timeout = destination.connect_timeout
        ae.acse_timeout = destination.connect_timeout
        ae.dimse_timeout = destination.response_timeout
        ae.network_timeout = destination.response_timeout
        try:
            link = ae.associate(
                destination.host,
                destination.port,
                contexts=contexts,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, set_no_delay)],
            )
        except OSError as error:
            msg = self._describe(f"could not be reached: {error.strerror}")
            raise PeerUnavailableError(msg) from error
        if not link.is_established:
            raise self._association_error(link)
        try:
            yield link
        finally:
            if link.is_established:
                link.release()

    def _association_error(self, link: Association) -> PeerRefusedError | PeerUnavailableError:
        if link.is_rejected:
            answer = cast("A_ASSOCIATE", link.acceptor.primitive)
            msg = self._describe(f"rejected the association: {answer.reason_str}")
            if answer.result == _REJECTED_TRANSIENT:
                return PeerUnavailableError(msg)
            return PeerNotReadyError(f"{msg}; check the AE titles on both sides")
        if link.rejected_contexts:
            return PeerRefusedError(self._describe("accepts none of the objects' SOP classes"))
        return PeerUnavailableError(self._describe("could not be reached"))

    def _describe(self, what: str) -> str:
        there = self._destination
        return f"destination {there.name} ({there.ae_title} at {there.host}:{there.port}) {what}"


def _contexts_for(datasets: Sequence[FileDataset]) -> list[PresentationContext]:
    """One context for each SOP class and transfer syntax.

    A context of its own for each syntax lets the peer accept several, so that an object goes as
    it is encoded wherever the peer takes that.
    """
    pairs: dict[tuple[UID, UID], None] = {}
    for dataset in datasets:
        encoded = UID(dataset.file_meta.TransferSyntaxUID)
        syntaxes = RESULT_TRANSFER_SYNTAXES if encoded in RESULT_TRANSFER_SYNTAXES else (encoded,)
        pairs.update({(UID(dataset.SOPClassUID), syntax): None for syntax in syntaxes})
    return [build_context(sop_class, [syntax]) for sop_class, syntax in pairs]


def _send(link: Association, uid: str, dataset: FileDataset, message_id: int) -> StoreOutcome:
    """Send one object over an association that may have ended meanwhile."""
    try:
        response = link.send_c_store(dataset, msg_id=message_id)
    except RuntimeError:
        return _unanswered(uid, "the association ended before this object")
    except ValueError:
        detail = "the peer accepted no presentation context for this SOP class"
        return StoreOutcome(uid, StoreVerdict.REFUSED, detail=detail)
    if "Status" not in response:
        return _unanswered(uid, "the peer did not answer")
    return outcome_of(uid, int(response.Status), str(response.get("ErrorComment", "")))


def _unanswered(uid: str, detail: str) -> StoreOutcome:
    return StoreOutcome(uid, StoreVerdict.UNAVAILABLE, detail=detail)
