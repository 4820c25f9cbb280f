"""TLS for DIMSE by the BCP 195 profile, with a certificate on both sides (PS3.15 section B.12)."""

from __future__ import annotations

import hashlib
import socket
import ssl
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

# Of TLS 1.2, what RFC 9325 section 4.2 recommends; OpenSSL adds those of TLS 1.3, all of them
# allowed. Nothing older is negotiated, and an unencrypted connection is no fallback.
CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
# Python interns the keys of every certificate that it decodes, and drops them with it. Unless they
# are held here, that wears the interpreter's table of such strings out: after some thousand
# connections it is made again, and the process larger by 4 MB.
KEYS_OF_DECODED_CERTIFICATES = (
    "OCSP",
    "caIssuers",
    "crlDistributionPoints",
    "issuer",
    "notAfter",
    "notBefore",
    "serialNumber",
    "subject",
    "subjectAltName",
    "version",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files TLS works with, in PEM.

    Attributes
    ----------
    certificate
        Ours, followed by those between it and its authority's.
    key
        The private key of it, without a passphrase.
    authorities
        Certificates of the authorities whose peers we believe.
    """

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says.

    Attributes
    ----------
    names
        Common names of its subject (CN) and DNS names of its Subject Alternative Name.
    fingerprint
        Hexadecimal SHA-256 of it.
    not_after
        When it expires, in UTC.
    """

    names: frozenset[str]
    fingerprint: str
    not_after: datetime


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the context of a listener, which asks every peer for a certificate.

    Raises
    ------
    ConfigurationError
        Naming the file that cannot be used, and why.
    """
    context = _context(files, ssl.PROTOCOL_TLS_SERVER, files.authorities)
    context.verify_mode = ssl.CERT_REQUIRED
    # Resumption would spare a peer its certificate; and tickets left unread reset connections.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Make the context of a requestor, which shows its certificate and checks the peer's.

    Raises
    ------
    ConfigurationError
        As `server_context`.
    """
    return _context(files, ssl.PROTOCOL_TLS_CLIENT, files.authorities)


def peer_certificate(connection: ssl.SSLSocket | ssl.SSLObject) -> Certificate:
    """Read the certificate the peer has shown, which the handshake has verified."""
    found = cast("dict[str, Any]", connection.getpeercert() or {})
    encoded = connection.getpeercert(binary_form=True) or b""
    subject = found.get("subject", ())
    names = {value for part in subject for kind, value in part if kind == "commonName"}
    names |= {value for kind, value in found.get("subjectAltName", ()) if kind == "DNS"}
    expires = ssl.cert_time_to_seconds(found["notAfter"])
    return Certificate(
        frozenset(names),
        hashlib.sha256(encoded).hexdigest(),
        datetime.fromtimestamp(expires, UTC),
    )


def own_certificate(files: TlsFiles) -> Certificate:
    """Read our own certificate, as a peer will that believes its authority.

    Raises
    ------
    ConfigurationError
        If a file cannot be used, or the certificate has expired or cannot serve.
    """
    ours = server_context(files)
    ours.verify_mode = ssl.CERT_NONE
    theirs = _context_that_knows_us(files)
    # Python reads no certificate but a peer's: we are our own.
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up)
    try:
        for end in (client, server, client, server):
            _step(end)
    except ssl.SSLError as error:
        msg = f"the certificate in {files.certificate} cannot be used: {why_it_failed(error)}."
        raise ConfigurationError(msg) from error
    return peer_certificate(client)


def certificate_of(files: TlsFiles, host: str, port: int, timeout: float) -> Certificate:
    """Ask a listener that should be ours for its certificate.

    Parameters
    ----------
    files
        Ours.
    host, port
        The listener.
    timeout
        Seconds to wait.

    Raises
    ------
    OSError
        If nobody answers, or with a certificate that is not of our making.
    ConfigurationError
        As `server_context`.
    """
    context = _context_that_knows_us(files)
    with (
        socket.create_connection((host, port), timeout) as connection,
        context.wrap_socket(connection) as encrypted,
    ):
        return peer_certificate(encrypted)


def _context_that_knows_us(files: TlsFiles) -> ssl.SSLContext:
    """Make the context of a requestor that believes our certificate instead of authorities."""
    context = _context(files, ssl.PROTOCOL_TLS_CLIENT, files.certificate)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    return context


def _step(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return


def _context(files: TlsFiles, protocol: int, believed: Path) -> ssl.SSLContext:
    for path in (files.certificate, files.key, files.authorities):
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            msg = f"the TLS file {path} cannot be read: {error.strerror}."
            raise ConfigurationError(msg) from error
    if files.key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
        msg = f"the TLS key {files.key} is open to everybody: take it from them (chmod o= FILE)."
        raise ConfigurationError(msg)
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHER_SUITES))
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    try:
        # Nobody is there to be asked for a passphrase.
        context.load_cert_chain(files.certificate, files.key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        msg = (
            f"the TLS key {files.key} does not open the certificate {files.certificate}: "
            f"{why_it_failed(error)}."
        )
        raise ConfigurationError(msg) from error
    try:
        context.load_verify_locations(believed)
    except ssl.SSLError as error:
        msg = f"the TLS authorities {believed} cannot be used: {why_it_failed(error)}."
        raise ConfigurationError(msg) from error
    return context


def _no_passphrase() -> str:
    msg = "the key has a passphrase; it must have none"
    raise ValueError(msg)


def why_it_failed(error: Exception) -> str:
    """Say what OpenSSL found, without its file names and line numbers."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = getattr(error, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else str(error)
