"""A PACS that keeps what it is sent, and answers as its mood is: loses replies, or is away."""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
)

from worker.embedded.process import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

AE_TITLE = "MOODY"

_SUCCESS, _PENDING, _DUPLICATE = 0x0000, 0xFF00, 0x0111


class Mood(StrEnum):
    """How it answers."""

    AWAY = "away"
    LOSES_REPLIES = "loses_replies"
    WELL = "well"


class MoodyPacs:
    """A storage and query SCP in a thread of the harness, not there at first.

    What it holds already it answers with 0x0111 Duplicate SOP Instance (PS3.4 table B.2-1).

    Attributes
    ----------
    held
        SOP Class UID of each object by its SOP Instance UID, and of which study it is.
    stores
        How often each object was sent.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.held: dict[str, tuple[str, str]] = {}
        self.stores: Counter[str] = Counter()
        self._mood = Mood.AWAY
        self._lock = threading.Lock()
        self._server: ThreadedAssociationServer | None = None
        self._ae = AE(AE_TITLE)
        self._ae.supported_contexts = StoragePresentationContexts
        for sop_class in (Comprehensive3DSRStorage, SegmentationStorage):
            self._ae.add_supported_context(sop_class)
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)

    @property
    def url(self) -> str:
        """The destination, as the setting wants it."""
        return f"dimse://{AE_TITLE}@127.0.0.1:{self.port}?commitment=query"

    def set_mood(self, mood: Mood) -> None:
        """Be so from now on."""
        self._mood = mood
        if mood is Mood.AWAY and self._server is not None:
            self._server.shutdown()
            self._server = None
        if mood is not Mood.AWAY and self._server is None:
            self._server = self._ae.start_server(
                ("127.0.0.1", self.port),
                block=False,
                evt_handlers=[(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.set_mood(Mood.AWAY)

    def _store(self, event: Event) -> int:
        dataset = event.dataset
        uid = str(dataset.SOPInstanceUID)
        with self._lock:
            known = uid in self.held
            self.held[uid] = (str(dataset.SOPClassUID), str(dataset.StudyInstanceUID))
            self.stores[uid] += 1
        if self._mood is Mood.LOSES_REPLIES:
            event.assoc.abort()
        return _DUPLICATE if known else _SUCCESS

    def _find(self, event: Event) -> Iterator[tuple[int, object]]:
        if str(event.identifier.SOPInstanceUID) in self.held:
            yield _PENDING, event.identifier
