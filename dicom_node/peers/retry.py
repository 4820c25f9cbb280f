"""The first layer of retrying: seconds, for a peer that could not be reached at all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

import stamina

from dicom_node.errors import PeerNotReadyError, PeerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydicom import FileDataset

    from dicom_node.commitment import StoredReference
    from dicom_node.peers.contract import OutgoingObject, StoreOutcome

Result = TypeVar("Result")

ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 4.0
GIVE_UP_AFTER_SECONDS = 45.0


def retry_within_seconds(call: Callable[[], Result]) -> Result:
    """Call until the peer is there, three times at most.

    The second layer, minutes to hours, is the outbox's; this one only spares it the restart of
    a service or a dropped packet.

    Parameters
    ----------
    call
        Must raise `PeerUnavailableError` only where nothing was achieved yet.
        `PeerNotReadyError` is raised at once: seconds change no set-up.
    """
    # A context rather than a decorator: stamina logs the arguments of what it retries.
    for attempt in stamina.retry_context(
        on=_may_pass_within_seconds,
        attempts=ATTEMPTS,
        timeout=GIVE_UP_AFTER_SECONDS,
        wait_initial=FIRST_WAIT_SECONDS,
        wait_max=LONGEST_WAIT_SECONDS,
    ):
        with attempt:
            return call()
    raise AssertionError  # stamina raises the last error itself


def _may_pass_within_seconds(error: Exception) -> bool:
    return isinstance(error, PeerUnavailableError) and not isinstance(error, PeerNotReadyError)


class RetryingPeer(ABC):
    """A peer whose services are tried again within seconds.

    See :class:`dicom_node.peers.contract.Peer`; subclasses speak the protocol.
    """

    def echo(self) -> None:
        """Ask whether the peer answers."""
        retry_within_seconds(self._echo)

    def store(self, objects: Sequence[OutgoingObject]) -> list[StoreOutcome]:
        """Store objects in their order."""
        datasets = [item.read() for item in objects]
        if not datasets:
            return []
        return retry_within_seconds(lambda: self._store(objects, datasets))

    def find(self, objects: Sequence[StoredReference]) -> list[bool]:
        """Tell which of the objects the peer finds."""
        return retry_within_seconds(lambda: self._find(objects)) if objects else []

    @abstractmethod
    def _echo(self) -> None:
        """Ask once."""

    @abstractmethod
    def _store(
        self, objects: Sequence[OutgoingObject], datasets: Sequence[FileDataset]
    ) -> list[StoreOutcome]:
        """Try once; raise `PeerUnavailableError` only where nothing was answered."""

    @abstractmethod
    def _find(self, objects: Sequence[StoredReference]) -> list[bool]:
        """Look once."""
