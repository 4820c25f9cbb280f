"""Destinations as one setting: URLs in, checked destinations of the DICOM edge out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from dicom_node.config import (
    CommitmentMethod,
    Destination,
    DicomWebDestination,
    DimseDestination,
)
from dicom_node.errors import ConfigurationError
from worker.encryption import tls_files
from worker.errors import SettingsError
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings import Settings

_VARIABLE = f"{PREFIX}DESTINATIONS"


def parse_destinations(settings: Settings) -> tuple[Destination, ...]:
    """Parse the destinations.

    ``dimse://AE_TITLE@host:port`` is a C-STORE SCP, ``dimse+tls://`` one with TLS, where
    ``?server_name=...`` is the name in its certificate if that is not its host;
    ``stow+https://user:password@host/path`` a DICOMweb service (``stow+http`` too), with
    ``?token=...`` instead of user and password, and ``?ca_bundle=FILE`` where its certificate is
    signed by an authority of the house. For both,
    ``?commitment=...`` is one of `CommitmentMethod`. A ``#NAME`` at the end names it.

    Raises
    ------
    SettingsError
        With one sentence that names the setting and the entry, never a password.
    """
    found = tuple(_parse(entry, settings) for entry in settings.destinations)
    names = [destination.name for destination in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(
                f"{_VARIABLE} has two destinations called {name}: end one with #ANOTHER_NAME."
            )
    return found


def _parse(entry: str, settings: Settings) -> Destination:
    try:
        parts = _split(entry)
        if parts.scheme in {"dimse", "dimse+tls"}:
            return _dimse(parts, settings)
        if parts.scheme in {"stow+http", "stow+https"}:
            return _dicomweb(parts)
    except (ConfigurationError, ValueError) as error:
        raise SettingsError(f"{_VARIABLE} is wrong: {error}") from None
    raise SettingsError(
        f"{_VARIABLE} is wrong: an entry must begin with dimse://, dimse+tls://, stow+http:// or "
        "stow+https://."
    )


def _split(entry: str) -> SplitResult:
    parts = urlsplit(entry)
    # A password with a bare / or # would end up in the path or the name, and be shown.
    if entry.count("@") != parts.netloc.count("@") or parts.netloc.count("@") > 1:
        raise ValueError("@, / and # within a name or password are written %40, %2F and %23")
    return parts


def _dimse(parts: SplitResult, settings: Settings) -> DimseDestination:
    if not parts.username or not parts.port or not parts.hostname:
        raise ValueError("a dimse destination looks like dimse://AE_TITLE@host:port")
    ae_title = unquote(parts.username)
    with_tls = parts.scheme == "dimse+tls"
    tls = tls_files(settings) if with_tls else None
    if with_tls and tls is None:
        raise ValueError(
            f"a dimse+tls destination takes {PREFIX}TLS_CERTIFICATE, _KEY, _AUTHORITIES"
        )
    known = {"commitment", "server_name"} if with_tls else {"commitment"}
    options = _options(parts, known)
    return DimseDestination(
        name=unquote(parts.fragment) or ae_title,
        ae_title=ae_title,
        host=parts.hostname,
        port=parts.port,
        calling_ae_title=settings.ae_title,
        tls=tls,
        server_name=options.get("server_name"),
        commitment=_commitment(options),
    )


def _dicomweb(parts: SplitResult) -> DicomWebDestination:
    host = parts.netloc.rpartition("@")[2]
    scheme = parts.scheme.removeprefix("stow+")
    options = _options(parts, {"token", "ca_bundle", "commitment"})
    return DicomWebDestination(
        name=unquote(parts.fragment) or (parts.hostname or ""),
        url=f"{scheme}://{host}{parts.path}".rstrip("/"),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        token=options.get("token"),
        ca_bundle=Path(options["ca_bundle"]) if "ca_bundle" in options else None,
        commitment=_commitment(options),
    )


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    given = parse_qs(parts.query, keep_blank_values=True)
    options = {name: values[-1] for name, values in given.items()}
    if unknown := set(options) - known:
        raise ValueError(
            f"{', '.join(sorted(unknown))} is no option; there is {', '.join(sorted(known))}"
        )
    return options


def _commitment(options: Mapping[str, str]) -> CommitmentMethod:
    given = options.get("commitment", CommitmentMethod.QUERY)
    if given not in set(CommitmentMethod):
        raise ValueError(f"commitment must be one of {', '.join(CommitmentMethod)}")
    return CommitmentMethod(given)
