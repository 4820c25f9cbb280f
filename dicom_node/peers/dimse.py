"""C-STORE SCU: sends objects to a PACS over one association, and looks whether it has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom.uid import UID
from pynetdicom.presentation import build_context

from dicom_node.contexts import RESULT_TRANSFER_SYNTAXES, VERIFICATION
from dicom_node.errors import PeerRefusedError, PeerUnavailableError
from dicom_node.peers.association import associate, describe
from dicom_node.peers.contract import OutgoingObject, StoreOutcome, outcome_of
from dicom_node.peers.query import find_stored
from dicom_node.peers.retry import RetryingPeer
from dicom_node.status import StorageStatus, StoreVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydicom import FileDataset
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

    from dicom_node.commitment import StoredReference
    from dicom_node.config import DimseDestination


class DimsePeer(RetryingPeer):
    """A storage SCP: C-ECHO, C-STORE over one association, C-FIND (PS3.4 annexes A, B and C).

    Parameters
    ----------
    destination
        Where it is and how it is called.
    """

    def __init__(self, destination: DimseDestination) -> None:
        self._destination = destination

    def _echo(self) -> None:
        contexts = [build_context(VERIFICATION, list(RESULT_TRANSFER_SYNTAXES))]
        with associate(self._destination, contexts) as link:
            response = link.send_c_echo()
            if "Status" not in response:
                raise PeerUnavailableError(describe(self._destination, "did not answer the C-ECHO"))
            if response.Status != StorageStatus.SUCCESS:
                msg = describe(
                    self._destination, f"answered the C-ECHO with status 0x{response.Status:04X}"
                )
                raise PeerRefusedError(msg)

    def _store(
        self, objects: Sequence[OutgoingObject], datasets: Sequence[FileDataset]
    ) -> list[StoreOutcome]:
        outcomes: list[StoreOutcome] = []
        with associate(self._destination, _contexts_for(datasets)) as link:
            for item, dataset in zip(objects, datasets, strict=True):
                uid = item.sop_instance_uid
                if outcomes and not outcomes[-1].answered:
                    # pynetdicom may not have noticed yet, and would wait for the whole timeout.
                    outcomes.append(_unanswered(uid, "the association ended before this object"))
                else:
                    outcomes.append(_send(link, uid, dataset, len(outcomes) + 1))
        if not any(outcome.answered for outcome in outcomes):
            raise PeerUnavailableError(describe(self._destination, "went away before it answered"))
        return outcomes

    def _find(self, objects: Sequence[StoredReference]) -> list[bool]:
        return find_stored(self._destination, objects)


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
    return outcome_of(uid, int(response.Status))


def _unanswered(uid: str, detail: str) -> StoreOutcome:
    return StoreOutcome(uid, StoreVerdict.UNAVAILABLE, detail=detail)
