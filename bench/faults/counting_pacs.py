"""A C-STORE SCP that stores nothing and counts: what came how often, of which study."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

from pynetdicom import AE, evt
from pynetdicom.presentation import StoragePresentationContexts

from worker.embedded.process import free_ports

if TYPE_CHECKING:
    from pynetdicom.events import Event

AE_TITLE = "COUNTER"


class CountingPacs:
    """Counts C-STOREs in a thread of the harness.

    Attributes
    ----------
    stored
        How often each object came: (Study Instance UID, SOP Class UID, SOP Instance UID).
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.stored: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()
        self._ae = AE(AE_TITLE)
        self._ae.maximum_associations = 100
        for context in StoragePresentationContexts:
            self._ae.add_supported_context(context.abstract_syntax)
        for sop_class in ("1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4"):
            self._ae.add_supported_context(sop_class)
        self._server = None

    @property
    def url(self) -> str:
        """The destination, as the setting wants it."""
        return f"dimse://{AE_TITLE}@127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._server = self._ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def _store(self, event: Event) -> int:
        dataset = event.dataset
        key = (str(dataset.StudyInstanceUID), str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        with self._lock:
            self.stored[key] += 1
        return 0x0000
