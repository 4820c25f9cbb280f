"""Destinations as one setting: URLs in, checked destinations of the DICOM edge out."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from dicom_node.config import Destination, DicomWebDestination, DimseDestination
from dicom_node.errors import ConfigurationError
from worker.errors import SettingsError
from worker.settings import PREFIX

if TYPE_CHECKING:
    from worker.settings import Settings

_VARIABLE = f"{PREFIX}DESTINATIONS"


def parse_destinations(settings: Settings) -> tuple[Destination, ...]:
    """Parse the destinations.

    ``dimse://AE_TITLE@host:port`` is a C-STORE SCP; ``stow+https://user:password@host/path`` a
    DICOMweb service (``stow+http`` too). A ``#NAME`` at the end names it.

    Raises
    ------
    SettingsError
        With one sentence that names the setting and the entry, never a password.
    """
    found = tuple(_parse(entry, settings.ae_title) for entry in settings.destinations)
    names = [destination.name for destination in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                f"{_VARIABLE} has two destinations called {name}: end one with #ANOTHER_NAME."
            )
    return found


def _parse(entry: str, calling_ae_title: str) -> Destination:
    try:
        parts = urlsplit(entry)
        if parts.scheme == "dimse":
            return _dimse(parts, calling_ae_title)
        if parts.scheme in {"stow+http", "stow+https"}:
            return _dicomweb(parts)
    except (ConfigurationError, ValueError) as error:
        raise SettingsError(f"{_VARIABLE} is wrong: {error}") from None
    raise SettingsError(
        f"{_VARIABLE} is wrong: an entry must begin with dimse://, stow+http:// or stow+https://."
    )


def _dimse(parts: SplitResult, calling_ae_title: str) -> DimseDestination:
    if not parts.username or not parts.port or not parts.hostname:
        raise ValueError("a dimse destination looks like dimse://AE_TITLE@host:port")
    ae_title = unquote(parts.username)
    return DimseDestination(
        name=unquote(parts.fragment) or ae_title,
        ae_title=ae_title,
        host=parts.hostname,
        port=parts.port,
        calling_ae_title=calling_ae_title,
    )


def _dicomweb(parts: SplitResult) -> DicomWebDestination:
    host = parts.netloc.rpartition("@")[2]
    scheme = parts.scheme.removeprefix("stow+")
    return DicomWebDestination(
        name=unquote(parts.fragment) or (parts.hostname or ""),
        url=f"{scheme}://{host}{parts.path}".rstrip("/"),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )
