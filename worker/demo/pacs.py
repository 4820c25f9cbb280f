"""The PACS of the demonstration: a throw-away Orthanc, or a small storage SCP without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self, cast

from pynetdicom import AE, AllStoragePresentationContexts, evt

from dicom_node.contexts import VERIFICATION
from worker.embedded.orthanc import ThrowAwayOrthanc, find_orthanc, route_stable_studies_lua
from worker.embedded.process import free_ports

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.events import Event
    from pynetdicom.transport import ThreadedAssociationServer

_SUCCESS = 0x0000


class DemoPacs(Protocol):
    """What the demonstration needs of a PACS.

    Attributes
    ----------
    name
        For the audience.
    ae_title, port
        Its storage SCP on this machine.
    routes
        Whether it sends studies on to the node by itself.
    """

    name: str
    ae_title: str
    port: int
    routes: bool

    def fetch(self, sop_instance_uid: str) -> bytes | None:
        """Return the DICOM file it holds under this UID, None if it has none."""


def demo_pacs(folder: Path, node_ae_title: str, node_port: int) -> AbstractContextManager[DemoPacs]:
    """Make the PACS: Orthanc where it is installed.

    Parameters
    ----------
    folder
        What it stores goes here.
    node_ae_title, node_port
        The node studies are routed to.
    """
    if find_orthanc() is None:
        return FolderPacs(folder)
    return OrthancPacs(folder, node_ae_title, node_port)


class OrthancPacs:
    """Orthanc with a Lua rule that routes every stable study to the node."""

    name = "Orthanc"
    routes = True

    def __init__(self, folder: Path, node_ae_title: str, node_port: int) -> None:
        self._orthanc = ThrowAwayOrthanc(
            folder,
            modalities={"lungwatch": (node_ae_title, "127.0.0.1", node_port)},
            lua_script=route_stable_studies_lua("lungwatch"),
        )
        self.ae_title = self._orthanc.ae_title
        self.port = self._orthanc.dicom_port

    def __enter__(self) -> Self:
        self._orthanc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._orthanc.stop()

    def fetch(self, sop_instance_uid: str) -> bytes | None:
        """Return the file of an instance, as Orthanc holds it."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        found = self._orthanc.post("/tools/find", query)
        return self._orthanc.download(found[0]) if found else None


class FolderPacs:
    """A storage SCP that keeps each instance as a file; the sender routes, it does not."""

    name = "a storage SCP (Orthanc is not installed)"
    routes = False
    ae_title = "DEMO_PACS"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (self.port,) = free_ports(1)
        self._files: dict[str, Path] = {}
        self._server: ThreadedAssociationServer | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        ae = AE(ae_title=self.ae_title)
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context(VERIFICATION)
        self._server = ae.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)]
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.shutdown()

    def fetch(self, sop_instance_uid: str) -> bytes | None:
        """Return the file of an instance, as it was received."""
        path = self._files.get(sop_instance_uid)
        return path.read_bytes() if path else None

    def _store(self, event: Event) -> int:
        # Numbered, not named by their UID: no text of a peer becomes a path.
        path = self._folder / f"{len(self._files):05d}.dcm"
        path.write_bytes(event.encoded_dataset())
        request = cast("C_STORE", event.request)
        self._files[str(request.AffectedSOPInstanceUID)] = path
        return _SUCCESS
