"""What `lungwatch doctor` examines of receiving: who may send, TLS, and the listener."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dicom_node.errors import ConfigurationError, DicomNodeError
from worker.doctor.check import Check, Level
from worker.encryption import tls_files
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.config import DimseDestination
    from dicom_node.tls import Certificate, TlsFiles
    from worker.settings import Settings

_CONNECT_SECONDS = 3.0
_EXPIRES_SOON = timedelta(days=30)
_SENDERS = f"{PREFIX}ALLOWED_CALLING_AE_TITLES"


def examine_senders(settings: Settings) -> Iterator[Check]:
    """Examine who may send, and how far each is bound to what it cannot make up."""
    from dicom_node.senders import ANY_AE_TITLE, Sender

    part = "senders"
    if not settings.allowed_calling_ae_titles:
        remedy = f"List the AE titles of PACS and modalities in {_SENDERS}."
        yield Check(part, Level.FAIL, "nobody may send", remedy)
        return
    try:
        senders = [Sender.parse(entry) for entry in settings.allowed_calling_ae_titles]
    except ConfigurationError as error:
        yield Check(
            part, Level.FAIL, str(error), f"Correct {_SENDERS}; docs/settings.md tells how."
        )
        return
    anybody = [sender for sender in senders if sender.ae_title == ANY_AE_TITLE]
    if any(sender.is_anybody for sender in anybody):
        remedy = f"List the AE titles in {_SENDERS}, unless the network itself is closed."
        yield Check(part, Level.WARN, "everybody may send", remedy)
    elif unbound := [sender.ae_title for sender in senders if sender.network is None]:
        message = f"may send from any address: {', '.join(unbound)}"
        remedy = f"AE titles can be forged: write AE_TITLE@ADDRESS in {_SENDERS}."
        yield Check(part, Level.WARN, message, remedy)
    else:
        shown = ", ".join(f"{sender.ae_title} at {sender.network}" for sender in senders)
        yield Check(part, Level.OK, shown)


def examine_tls(settings: Settings) -> Iterator[Check]:
    """Examine the certificate, and whether senders are bound to theirs."""
    from dicom_node.tls import own_certificate

    part, files = "tls", tls_files(settings)
    if files is None:
        remedy = (
            f"Set {PREFIX}TLS_CERTIFICATE, _KEY and _AUTHORITIES, unless the network itself is "
            "closed."
        )
        yield Check(part, Level.WARN, "DICOM connections are not encrypted", remedy)
        return
    try:
        ours = own_certificate(files)
    except ConfigurationError as error:
        yield Check(part, Level.FAIL, str(error), "docs/operators-guide.md tells how to make them.")
        return
    yield _validity(ours)
    if settings.listen_unencrypted:
        remedy = f"Unset {PREFIX}LISTEN_UNENCRYPTED, unless the network itself is closed."
        yield Check(part, Level.WARN, "the listener does not use TLS", remedy)
        return
    titles = [entry for entry in settings.allowed_calling_ae_titles if "#" not in entry]
    if titles:
        message = f"may send with any certificate of our authorities: {', '.join(titles)}"
        remedy = f"Write AE_TITLE@ADDRESS#NAME in {_SENDERS}, the name as in its certificate."
        yield Check(part, Level.WARN, message, remedy)


def _validity(ours: Certificate) -> Check:
    left = ours.not_after - datetime.now(UTC)
    message = f"our certificate expires on {ours.not_after:%Y-%m-%d}"
    if left < _EXPIRES_SOON:
        remedy = "Have a new one made and start the node again; nobody can send after that day."
        return Check("tls", Level.WARN, f"{message}, in {left.days} days", remedy)
    return Check("tls", Level.OK, f"{message}; its SHA-256 is {ours.fingerprint}")


def examine_listener(settings: Settings) -> Iterator[Check]:
    """Examine whether the port is free, or our listener answers on it."""
    part, address = "listener", f"{settings.listen_host}:{settings.listen_port}"
    if _port_is_free(settings.listen_host, settings.listen_port):
        yield Check(part, Level.OK, f"{address} is free; the node is not running here")
        return
    tls = None if settings.listen_unencrypted else tls_files(settings)
    try:
        answer = _answer_with_tls(settings, tls) if tls else _answer(settings)
    except (DicomNodeError, OSError) as error:
        yield Check(
            part,
            Level.FAIL,
            f"{address} is taken, and not by {settings.ae_title}: {error}",
            f"End the other program, or choose another {PREFIX}LISTEN_PORT.",
        )
        return
    yield Check(part, Level.OK, f"{answer} on {address}")


def _answer(settings: Settings) -> str:
    """Ask by C-ECHO, as one who may call from this machine."""
    from dicom_node.peers import open_peer
    from dicom_node.senders import ANY_AE_TITLE, Admission, Sender, admit, parse_address

    host = _reachable(settings.listen_host)
    senders = [Sender.parse(entry) for entry in settings.allowed_calling_ae_titles]
    titles = [each.ae_title for each in senders if each.ae_title != ANY_AE_TITLE]
    for title in [*titles, settings.ae_title]:
        try:
            admitted = admit(senders, title, parse_address(host), None) is Admission.ADMITTED
        except ValueError:  # A host name says nothing of the address we will call from.
            admitted = True
        if admitted:
            open_peer(_ourselves(settings, host, title)).echo()
            return f"{settings.ae_title} answers C-ECHO"
    with socket.create_connection((host, settings.listen_port), _CONNECT_SECONDS):
        return "something listens, which lets nobody call from this machine"


def _ourselves(settings: Settings, host: str, calling_ae_title: str) -> DimseDestination:
    from dicom_node.config import DimseDestination

    return DimseDestination(
        name="listener",
        ae_title=settings.ae_title,
        host=host,
        port=settings.listen_port,
        calling_ae_title=calling_ae_title,
        connect_timeout=_CONNECT_SECONDS,
        response_timeout=_CONNECT_SECONDS,
    )


def _answer_with_tls(settings: Settings, files: TlsFiles) -> str:
    """Ask for the certificate, which takes its key."""
    from dicom_node.tls import certificate_of, own_certificate

    host = _reachable(settings.listen_host)
    shown = certificate_of(files, host, settings.listen_port, _CONNECT_SECONDS)
    if shown != own_certificate(files):
        msg = "its certificate is another one; a node that runs keeps the one it started with"
        raise OSError(msg)
    return "what answers has our certificate"


def _port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        # As the listener itself binds: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _reachable(host: str) -> str:
    """Address under which a listener bound to `host` answers on this machine."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
