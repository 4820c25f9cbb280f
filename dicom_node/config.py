"""Settings of the DICOM edge: the listener and the destinations results are sent to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

ANY_CALLING_AE_TITLE = "*"

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """How the C-STORE SCP listens, whom it serves and when it says no.

    Attributes
    ----------
    ae_title
        Our AE title; an association that calls another one is rejected.
    host, port
        Address to bind; port 0 takes a free one.
    spool_dir
        Root of the spool.
    allowed_calling_ae_titles
        The AE titles that are served, everybody else is rejected. A single ``"*"`` serves all:
        AE titles are no secret, so use it only where the network itself is closed.
    minimum_free_bytes
        Watermark: with less than this left on the spool's file system a C-STORE is answered
        0xA700, and the sender tries again later.
    maximum_associations
        Associations served at once; one more is rejected as transient (PS3.8 section 9.3.4,
        local limit exceeded).
    maximum_instance_bytes
        A larger encoded data set is refused with 0xC000 and never held in memory.
    acse_timeout, dimse_timeout, network_timeout
        Seconds to wait for an association message, a DIMSE message, and any sign of the peer.
    maximum_pdu_size
        Largest P-DATA-TF PDU we offer to receive, in bytes.

    Raises
    ------
    ConfigurationError
        Naming the setting that cannot work.
    """

    ae_title: str
    host: str
    port: int
    spool_dir: Path
    allowed_calling_ae_titles: frozenset[str]
    minimum_free_bytes: int = 1 * _GIB
    maximum_associations: int = 16
    maximum_instance_bytes: int = 2 * _GIB
    acse_timeout: float = 10.0
    dimse_timeout: float = 30.0
    network_timeout: float = 30.0
    maximum_pdu_size: int = 131072

    def __post_init__(self) -> None:
        _check_ae_title("ae_title", self.ae_title)
        _check_port("port", self.port, lowest=0)
        if not self.allowed_calling_ae_titles:
            msg = (
                "allowed_calling_ae_titles is empty, so nobody could send: list the AE titles "
                f'of the senders, or "{ANY_CALLING_AE_TITLE}" for everybody.'
            )
            raise ConfigurationError(msg)
        for title in self.allowed_calling_ae_titles - {ANY_CALLING_AE_TITLE}:
            _check_ae_title("allowed_calling_ae_titles", title)
        for name in ("maximum_associations", "maximum_instance_bytes"):
            _check_positive(name, getattr(self, name))
        for name in ("acse_timeout", "dimse_timeout", "network_timeout"):
            _check_positive(name, getattr(self, name))
        if self.minimum_free_bytes < 0:
            msg = f"minimum_free_bytes must not be negative, got {self.minimum_free_bytes}."
            raise ConfigurationError(msg)
        if self.maximum_pdu_size < 4096:
            msg = f"maximum_pdu_size must be at least 4096 bytes, got {self.maximum_pdu_size}."
            raise ConfigurationError(msg)

    @property
    def serves_everybody(self) -> bool:
        """Whether any calling AE title is accepted."""
        return ANY_CALLING_AE_TITLE in self.allowed_calling_ae_titles


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseDestination:
    """A PACS that takes results by C-STORE.

    Attributes
    ----------
    name
        What the operator calls it; unique among the destinations.
    ae_title, host, port
        The storage SCP.
    calling_ae_title
        The AE title we call with.
    connect_timeout, response_timeout
        Seconds to wait for the association, and for the answer to each C-STORE.
    """

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    connect_timeout: float = 10.0
    response_timeout: float = 60.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_ae_title(f"destination {self.name}: ae_title", self.ae_title)
        _check_ae_title(f"destination {self.name}: calling_ae_title", self.calling_ae_title)
        _check_port(f"destination {self.name}: port", self.port, lowest=1)
        if not self.host:
            msg = f"destination {self.name}: host is empty."
            raise ConfigurationError(msg)
        for timeout in ("connect_timeout", "response_timeout"):
            _check_positive(f"destination {self.name}: {timeout}", getattr(self, timeout))


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomWebDestination:
    """A PACS that takes results by STOW-RS (PS3.18 section 10.5).

    Attributes
    ----------
    name
        What the operator calls it; unique among the destinations.
    url
        Base of the DICOMweb service, without ``/studies``.
    username, password
        HTTP basic authentication, both or none.
    token
        Bearer token instead of a user name.
    ca_bundle
        Certificates that sign the server's, where they are not the system's. The server's
        certificate is always verified.
    connect_timeout, response_timeout
        Seconds to wait for the connection, and for the answer to each request.
    """

    name: str
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    connect_timeout: float = 10.0
    response_timeout: float = 60.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            msg = f"destination {self.name}: url must be http://... or https://..., with a host."
            raise ConfigurationError(msg)
        if parts.username or parts.password:
            msg = f"destination {self.name}: url must not hold credentials; use username, password."
            raise ConfigurationError(msg)
        if (self.username is None) != (self.password is None):
            msg = f"destination {self.name}: username and password belong together."
            raise ConfigurationError(msg)
        if self.username is not None and self.token is not None:
            msg = f"destination {self.name}: give username and password or token, not both."
            raise ConfigurationError(msg)
        if self.ca_bundle is not None and not self.ca_bundle.is_file():
            msg = f"destination {self.name}: ca_bundle {self.ca_bundle} is no file."
            raise ConfigurationError(msg)
        for timeout in ("connect_timeout", "response_timeout"):
            _check_positive(f"destination {self.name}: {timeout}", getattr(self, timeout))


Destination = DimseDestination | DicomWebDestination


def _check_ae_title(setting: str, title: str) -> None:
    """Hold an AE title to its value representation (PS3.5 section 6.2, AE)."""
    printable = title.isascii() and title.isprintable() and "\\" not in title
    if not printable or not 1 <= len(title) <= 16 or title != title.strip():
        msg = (
            f"{setting} must be 1 to 16 printable ASCII characters without a backslash and "
            f"without spaces around it, got {title!r}."
        )
        raise ConfigurationError(msg)


def _check_port(setting: str, port: int, *, lowest: int) -> None:
    if not lowest <= port <= 65535:
        msg = f"{setting} must be between {lowest} and 65535, got {port}."
        raise ConfigurationError(msg)


def _check_positive(setting: str, value: float) -> None:
    if value <= 0:
        msg = f"{setting} must be greater than zero, got {value}."
        raise ConfigurationError(msg)


def _check_name(name: str) -> None:
    if not name.strip():
        msg = "destination name is empty."
        raise ConfigurationError(msg)
