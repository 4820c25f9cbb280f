"""Settings of the DICOM edge: the listener and the destinations results are sent to."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dicom_node.errors import ConfigurationError
from dicom_node.senders import Sender, check_ae_title
from dicom_node.tls import client_context, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.tls import TlsFiles

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
        Who is served, everybody else is rejected: AE titles, each with the address or network
        it calls from and a name or fingerprint of its certificate where it is bound to these,
        as `dicom_node.senders.Sender` parses them. AE titles are no secret: an unbound one, or
        ``"*"`` for every caller, is for a network that is itself closed.
    tls
        Our certificate, its key, and the authorities of the senders' certificates. With it the
        listener takes nothing but TLS, and of every sender a certificate; None: no TLS.
    minimum_free_bytes
        Watermark: with less than this left on the spool's file system a C-STORE is answered
        0xA700, and the sender tries again later.
    maximum_associations, maximum_associations_per_address
        Associations served at once, overall and to one address; one more is rejected as
        transient (PS3.8 section 9.3.4, local limit exceeded). An IPv6 address stands for its /64.
    maximum_waiting, maximum_waiting_per_address
        Connections that may be open without an association yet; for one more, one is closed.
    maximum_instance_bytes
        A larger encoded data set is refused with 0xC000 and never held in memory.
    acse_timeout
        Seconds from a connection to the last byte of its A-ASSOCIATE-RQ, TLS handshake included
        (the ARTIM timer of PS3.8 section 9.1.5), and to wait for other association messages.
    dimse_timeout, network_timeout
        Seconds to wait for a DIMSE message; and for any sign of the peer, or a PDU's last byte
        after its first.
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
    tls: TlsFiles | None = None
    maximum_associations: int = 16
    maximum_associations_per_address: int = 8
    maximum_waiting: int = 512
    maximum_waiting_per_address: int = 256
    maximum_instance_bytes: int = 2 * _GIB
    acse_timeout: float = 10.0
    dimse_timeout: float = 30.0
    network_timeout: float = 30.0
    maximum_pdu_size: int = 131072

    def __post_init__(self) -> None:
        check_ae_title("ae_title", self.ae_title)
        _check_port("port", self.port, lowest=0)
        if not self.allowed_calling_ae_titles:
            msg = (
                "allowed_calling_ae_titles is empty, so nobody could send: list the AE titles "
                'of the senders, or "*" for everybody.'
            )
            raise ConfigurationError(msg)
        if self.tls is None and any(sender.certificate for sender in self.senders):
            msg = (
                "allowed_calling_ae_titles binds a sender to its certificate, which it shows with "
                "TLS alone: give the listener a certificate, key and authorities."
            )
            raise ConfigurationError(msg)
        if self.tls is not None:
            server_context(self.tls)
        for name in (
            "maximum_associations",
            "maximum_associations_per_address",
            "maximum_waiting",
            "maximum_waiting_per_address",
            "maximum_instance_bytes",
        ):
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
    def senders(self) -> tuple[Sender, ...]:
        """Who is served."""
        return tuple(map(Sender.parse, sorted(self.allowed_calling_ae_titles)))


class CommitmentMethod(StrEnum):
    """How a destination tells that it keeps an object, before the spool may let it go.

    Storage commitment is PS3.4 Annex J; a query finds the object there; none takes the success
    of the C-STORE for it.
    """

    STORAGE_COMMITMENT = "storage_commitment"
    QUERY = "query"
    NONE = "none"


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
    commitment
        How it tells that it keeps an object.
    """

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae_title: str
    tls: TlsFiles | None = None
    server_name: str | None = None
    connect_timeout: float = 10.0
    response_timeout: float = 60.0
    commitment: CommitmentMethod = CommitmentMethod.QUERY

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_ae_title(f"destination {self.name}: ae_title", self.ae_title)
        check_ae_title(f"destination {self.name}: calling_ae_title", self.calling_ae_title)
        _check_port(f"destination {self.name}: port", self.port, lowest=1)
        if not self.host:
            msg = f"destination {self.name}: host is empty."
            raise ConfigurationError(msg)
        if self.tls is not None:
            client_context(self.tls)
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
        Seconds to wait for the connection, and for the whole answer to each request.
    commitment
        How it tells that it keeps an object; DICOMweb knows no storage commitment.
    """

    name: str
    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    connect_timeout: float = 10.0
    response_timeout: float = 60.0
    commitment: CommitmentMethod = CommitmentMethod.QUERY

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
        if self.commitment is CommitmentMethod.STORAGE_COMMITMENT:
            msg = (
                f"destination {self.name}: DICOMweb knows no storage commitment; use "
                "commitment=query or commitment=none."
            )
            raise ConfigurationError(msg)
        if self.ca_bundle is not None and not self.ca_bundle.is_file():
            msg = f"destination {self.name}: ca_bundle {self.ca_bundle} is no file."
            raise ConfigurationError(msg)
        for timeout in ("connect_timeout", "response_timeout"):
            _check_positive(f"destination {self.name}: {timeout}", getattr(self, timeout))


Destination = DimseDestination | DicomWebDestination


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
