"""Parts of an installation that can be killed at any of their steps, and a PACS in memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from dicom_node.errors import PeerUnavailableError
from dicom_node.peers.contract import StoreOutcome, outcome_of
from dicom_node.receiving.spool import Spool
from dicom_node.status import StoreVerdict
from worker.db.engine import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from dicom_node.commitment import StoredReference
    from dicom_node.peers.contract import OutgoingObject


class Crash(BaseException):
    """The process is gone; no `except Exception` of the product may survive it."""


class Fuse:
    """Burns down by one at every step a process can be killed at, and kills it at the last."""

    def __init__(self) -> None:
        self._left: int | None = None

    def burn(self) -> None:
        """Pass one step."""
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            self._left = None
            raise Crash

    @contextmanager
    def lit(self, steps: int | None) -> Iterator[None]:
        """Kill whatever runs inside after so many steps; None lets it live."""
        self._left = steps
        try:
            yield
        finally:
            self._left = None


class FaultyDatabase(Database):
    """The database, whose client may be killed before and after each transaction.

    Attributes
    ----------
    after_commit
        What somebody else does right after each, before the client goes on.
    """

    def __init__(self, url: str, fuse: Fuse) -> None:
        super().__init__(url)
        self._fuse = fuse
        self.after_commit: Callable[[], object] = _nothing

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self._fuse.burn()
        with super().transaction() as session:
            yield session
        self.after_commit()
        self._fuse.burn()


def _nothing() -> None:
    """Do nothing."""


class FaultySpool(Spool):
    """The spool, whose owner may be killed before and after each of its moves."""

    def __init__(self, root: Path, fuse: Fuse) -> None:
        super().__init__(root)
        self._fuse = fuse

    def file_into_study(self, *arguments: object) -> Path:
        return self._between(super().file_into_study, *arguments)

    def quarantine(self, *arguments: object) -> Path:
        return self._between(super().quarantine, *arguments)

    def forget_quarantined(self, *arguments: object) -> None:
        self._between(super().forget_quarantined, *arguments)

    def discard(self, *arguments: object) -> None:
        self._between(super().discard, *arguments)

    def _between(self, move: Callable[..., object], *arguments: object) -> object:
        self._fuse.burn()
        done = move(*arguments)
        self._fuse.burn()
        return done


class Pacs:
    """What a storage SCP keeps, and the ways in which its answers can fail."""

    MOODS = ("stores", "calls_duplicates", "loses_reply", "stores_first", "full", "away", "refuses")

    def __init__(self, fuse: Fuse) -> None:
        self.objects: dict[str, bytes] = {}
        self.overwritten: set[str] = set()
        self.mood = "stores"
        self._fuse = fuse

    def store(self, objects: Sequence[OutgoingObject]) -> list[StoreOutcome]:
        """Answer as `dicom_node.peers.contract.Peer.store` promises."""
        if self.mood == "away":
            raise PeerUnavailableError("nobody is there")
        outcomes = [self._answer(number, outgoing) for number, outgoing in enumerate(objects)]
        self._fuse.burn()
        if self.mood == "loses_reply":
            raise PeerUnavailableError("the connection was lost")
        return outcomes

    def find(self, objects: Sequence[StoredReference]) -> list[bool]:
        """Answer as `dicom_node.peers.contract.Peer.find` promises."""
        return [each.sop_instance_uid in self.objects for each in objects]

    def _answer(self, number: int, outgoing: OutgoingObject) -> StoreOutcome:
        self._fuse.burn()
        uid = outgoing.sop_instance_uid
        if self.mood == "refuses":
            return outcome_of(uid, 0xA900)
        if self.mood == "full":
            return outcome_of(uid, 0xA700)
        if self.mood == "stores_first" and number > 0:
            return StoreOutcome(uid, StoreVerdict.UNAVAILABLE, detail="the connection was lost")
        known = self.objects.setdefault(uid, outgoing.content)
        if known != outgoing.content:
            self.overwritten.add(uid)
        if self.mood == "calls_duplicates" and known is not outgoing.content:
            return outcome_of(uid, 0x0111)
        return outcome_of(uid, 0x0000)
