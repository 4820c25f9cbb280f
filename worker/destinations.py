"""Destinations as one setting: URLs in, checked destinations of the DICOM edge out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

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
    DICOMweb service (``stow+http`` too), with ``?token=...`` instead of user and password, and
    ``?ca_bundle=FILE`` where its certificate is signed by an authority of the house. A ``#NAME``
    at the end names it.

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
        parts = _split(entry)
        if parts.scheme == "dimse":
            return _dimse(parts, calling_ae_title)
        if parts.scheme in {"stow+http", "stow+https"}:
            return _dicomweb(parts)
    except (ConfigurationError, ValueError) as error:
        raise SettingsError(f"{_VARIABLE} is wrong: {error}") from None
    raise SettingsError(
        f"{_VARIABLE} is wrong: an entry must begin with dimse://, stow+http:// or stow+https://."
    )


def _split(entry: str) -> SplitResult:
    parts = urlsplit(entry)
    # A password with a bare / or # would end up in the path or the name, and be shown.
    if entry.count("@") != parts.netloc.count("@") or parts.netloc.count("@") > 1:
        raise ValueError("@, / and # within a name or password are written %40, %2F and %23")
    return parts


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
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := set(options) - {"token", "ca_bundle"}:
        raise ValueError(f"{', '.join(sorted(unknown))} is no option; token and ca_bundle are")
    return DicomWebDestination(
        name=unquote(parts.fragment) or (parts.hostname or ""),
        url=f"{scheme}://{host}{parts.path}".rstrip("/"),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        token=options.get("token"),
        ca_bundle=Path(options["ca_bundle"]) if "ca_bundle" in options else None,
    )
