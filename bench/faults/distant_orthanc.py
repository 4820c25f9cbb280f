"""A real Orthanc behind a proxy that spoils its replies, as the destination of a whole site."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from bench.faults.moody_proxy import IMPATIENT_SECONDS, MoodyProxy
from bench.faults.screening_site import ScreeningSite
from worker.embedded.orthanc import ThrowAwayOrthanc
from worker.embedded.process import free_ports

if TYPE_CHECKING:
    from pathlib import Path

AE_TITLE = "ORTHANC"


class DistantOrthanc:
    """Orthanc, proxy and site, each knowing the next one's port.

    Parameters
    ----------
    folder
        For everything that they store.
    commitment
        How the site makes sure that Orthanc keeps what it was sent.
    **settings
        The site's.

    Attributes
    ----------
    orthanc, proxy, site
        The three. The site's node does not wait for long for a reply, and a delayed one comes
        after that.
    """

    def __init__(self, folder: Path, commitment: str, **settings: object) -> None:
        (port,) = free_ports(1)
        self.proxy = MoodyProxy(port, 2 * IMPATIENT_SECONDS)
        self.site = ScreeningSite(
            folder,
            ("impatient_node", "cheap_worker"),
            f"dimse://{AE_TITLE}@127.0.0.1:{self.proxy.port}?commitment={commitment}",
            allowed_calling_ae_titles=f"STORESCU,{AE_TITLE}",
            **settings,
        )
        self.orthanc = ThrowAwayOrthanc(
            folder / "orthanc",
            ae_title=AE_TITLE,
            dicom_port=port,
            modalities={"lungwatch": ("LUNGWATCH", "127.0.0.1", self.site.port)},
        )
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for each in (self.orthanc, self.proxy, self.site):
                stack.enter_context(each)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def held(self) -> Counter[tuple[str, str]]:
        """Count what Orthanc holds: objects of each modality of each study."""
        everything = {"Level": "Series", "Query": {}, "Expand": True}
        uids = {
            study["ID"]: study["MainDicomTags"]["StudyInstanceUID"]
            for study in self.orthanc.get("/studies?expand")
        }
        objects: Counter[tuple[str, str]] = Counter()
        for series in self.orthanc.post("/tools/find", everything):
            modality = series["MainDicomTags"]["Modality"]
            objects[modality, uids[series["ParentStudy"]]] += len(series["Instances"])
        return objects

    def forget(self, sop_instance_uid: str) -> Path:
        """Let Orthanc lose an object; return a copy of it."""
        query = {"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}
        (instance,) = self.orthanc.post("/tools/find", query)
        copy = self.orthanc.folder / "forgotten.dcm"
        copy.write_bytes(self.orthanc.download(instance))
        self.orthanc.delete(f"/instances/{instance}")
        return copy
