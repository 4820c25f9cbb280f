"""A throw-away Orthanc as the PACS of the demonstration and of the tests."""

from __future__ import annotations

import http.client
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
_HTTP_TIMEOUT_SECONDS = 60.0


def find_orthanc() -> Path | None:
    """Where Orthanc is installed, None where it is not.

    Debian puts it into a folder that is not on the search path of ordinary users.
    """
    found = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def route_stable_studies_lua(modality: str) -> str:
    """Lua script that sends a study to a node whenever something of it arrived and settled.

    A result that comes back settles its study again: the node gets its own objects back, as from
    any PACS that routes by study, and has to recognise them. The study goes out as one job on one
    association; Orthanc's own `SendToModality` takes single instances only.

    Parameters
    ----------
    modality
        Name of the node among Orthanc's modalities.
    """
    return f"""\
function OnStableStudy(studyId, tags, metadata)
  local body = DumpJson({{Resources = {{studyId}}, Asynchronous = true}}, true)
  RestApiPost('/modalities/{modality}/store', body)
end
"""


class ThrowAwayOrthanc:
    """An Orthanc with a storage of its own that takes whatever is sent to it.

    HTTP answers this machine only. DICOM answers everybody who reaches the port: not for patients.

    Parameters
    ----------
    folder
        Folder for storage, configuration and log; made when absent.
    ae_title
        Its AE title.
    dicom_port, http_port
        TCP ports; free ones when not given.
    modalities
        DICOM nodes it knows: name -> (AE title, host, port).
    lua_script
        Lua source with its callbacks, for instance `route_stable_studies_lua`.
    settings
        Entries of its configuration that win over ours, for instance ``StableAge``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        ae_title: str = "ORTHANC",
        dicom_port: int | None = None,
        http_port: int | None = None,
        modalities: Mapping[str, tuple[str, str, int]] | None = None,
        lua_script: str | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.ae_title = ae_title
        free_dicom, free_http = free_ports(2)
        self.dicom_port = free_dicom if dicom_port is None else dicom_port
        self.http_port = free_http if http_port is None else http_port
        self._modalities = dict(modalities or {})
        self._lua_script = lua_script
        self._settings = dict(settings or {})
        self._service = ServiceProcess("Orthanc", self.folder / "orthanc.log")

    @property
    def url(self) -> str:
        """Root of its REST API, without a closing slash."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        """Root of its DICOMweb services, without a closing slash."""
        return f"{self.url}/dicom-web"

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._service.running

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises
        ------
        EmbeddedServiceError
            Orthanc is not installed, or did not start; the message ends with its log.
        """
        binary = find_orthanc()
        if binary is None:
            raise EmbeddedServiceError(
                "Orthanc is not installed: apt-get install orthanc orthanc-dicomweb"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "orthanc.json"
        configuration.write_text(json.dumps(self._configuration(), indent=2))
        # Without TCP_NODELAY, DCMTK's network layer stalls 40 ms for each C-STORE.
        self._service.start(
            [binary, configuration],
            self._answers,
            cwd=self.folder,
            environment={"TCP_NODELAY": "1"},
        )

    def stop(self) -> None:
        """End it; its storage stays in `folder`. Safe to call twice."""
        self._service.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self._service.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def studies(self) -> list[str]:
        """Study Instance UIDs of what it holds."""
        return sorted(
            study["MainDicomTags"]["StudyInstanceUID"] for study in self.get("/studies?expand")
        )

    def instances(
        self, *, modality: str | None = None, study_instance_uid: str | None = None
    ) -> list[str]:
        """Orthanc's identifiers of the instances it holds.

        Parameters
        ----------
        modality, study_instance_uid
            Only those; None takes all.
        """
        wanted = {"Modality": modality, "StudyInstanceUID": study_instance_uid}
        query = {key: value for key, value in wanted.items() if value is not None}
        found: list[str] = self.post("/tools/find", {"Level": "Instance", "Query": query})
        return sorted(found)

    def download(self, instance: str) -> bytes:
        """Download the file of one instance, as it was stored.

        Parameters
        ----------
        instance
            Orthanc's identifier.
        """
        return self._request("GET", f"/instances/{instance}/file")

    def upload(self, path: Path) -> str:
        """Upload a DICOM file without DICOM networking.

        Parameters
        ----------
        path
            The file.

        Returns
        -------
        str
            Orthanc's identifier of the instance.
        """
        answer = json.loads(self._request("POST", "/instances", path.read_bytes()))
        return str(answer["ID"])

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON has every type
        """Answer of its REST API to a GET, decoded from JSON."""
        return json.loads(self._request("GET", path))

    def post(self, path: str, body: object) -> Any:  # noqa: ANN401 - JSON has every type
        """Answer of its REST API to a POST of `body` as JSON, decoded from JSON."""
        return json.loads(self._request("POST", path, json.dumps(body).encode()))

    def delete(self, path: str) -> None:
        """Delete what a path of its REST API names, for instance ``/instances/...``."""
        self._request("DELETE", path)

    def _configuration(self) -> dict[str, object]:
        lua_scripts = []
        if self._lua_script is not None:
            script = self.folder / "callbacks.lua"
            script.write_text(self._lua_script)
            lua_scripts.append(str(script))
        # "Host" of DicomWeb stays out: with it, the URLs in its answers lose their port.
        return {
            "Name": "Throw-away Orthanc",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "DicomModalities": {name: list(node) for name, node in self._modalities.items()},
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": 2,
            "LuaScripts": lua_scripts,
            "Plugins": [str(DICOMWEB_PLUGIN)] if DICOMWEB_PLUGIN.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **self._settings,
        }

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except OSError:
            return False

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.http_port, timeout=_HTTP_TIMEOUT_SECONDS
        )
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise EmbeddedServiceError(
                f"Orthanc answered {response.status} to {method} {path}: "
                f"{content[:500].decode(errors='replace')}"
            )
        return content
