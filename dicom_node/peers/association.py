"""An association to a destination, as its requestor."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.pdu import A_ASSOCIATE_RJ

from dicom_node.errors import (
    ConfigurationError,
    PeerNotReadyError,
    PeerRefusedError,
    PeerUnavailableError,
)
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.peers.replies import keep_replies
from dicom_node.tls import client_context
from dicom_node.transport import guard_outgoing, keep_data_sets_out_of_logs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Sequence

    from pynetdicom.association import Association
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

    from dicom_node.config import DimseDestination
    from dicom_node.errors import PeerError

_REJECTED_TRANSIENT = 0x02


@contextmanager
def associate(
    destination: DimseDestination,
    contexts: list[PresentationContext],
    handlers: Sequence[tuple[Any, ...]] = (),
) -> Iterator[Association]:
    """Open an association, and release it in the end.

    Parameters
    ----------
    destination
        Whom to call.
    contexts
        What to propose.
    handlers
        pynetdicom's event handlers, for what the peer asks of us.

    Raises
    ------
    PeerUnavailableError, PeerNotReadyError
        If there is nobody, or we are rejected.
    PeerRefusedError
        If none of the contexts is accepted.
    """
    keep_data_sets_out_of_logs()
    ae = AE(ae_title=destination.calling_ae_title)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.connection_timeout = destination.connect_timeout
    ae.acse_timeout = destination.connect_timeout
    ae.dimse_timeout = destination.response_timeout
    ae.network_timeout = destination.response_timeout
    guard = partial(guard_outgoing, timeout=destination.response_timeout)
    rejections: list[A_ASSOCIATE_RJ] = []

    def note_rejection(event: Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):
            rejections.append(event.pdu)

    try:
        link = ae.associate(
            destination.host,
            destination.port,
            contexts=contexts,
            ae_title=destination.ae_title,
            tls_args=_tls(destination),
            evt_handlers=[
                (evt.EVT_CONN_OPEN, guard),
                (evt.EVT_PDU_RECV, note_rejection),
                *handlers,
            ],
        )
    except OSError as error:
        msg = describe(destination, f"could not be reached: {error.strerror}")
        raise PeerUnavailableError(msg) from error
    if not link.is_established:
        raise _association_error(destination, link, rejections)
    keep_replies(link)
    try:
        yield link
    finally:
        if link.is_established:
            link.release()


def describe(destination: DimseDestination, what: str) -> str:
    """Say of a destination what it did, for a person."""
    there = destination
    return f"destination {there.name} ({there.ae_title} at {there.host}:{there.port}) {what}"


def _association_error(
    destination: DimseDestination, link: Association, rejections: list[A_ASSOCIATE_RJ]
) -> PeerError:
    # A rejection that comes at once is taken for a failed connection by pynetdicom.
    for rejection in rejections:
        msg = describe(destination, f"rejected the association: {rejection.reason_str}")
        if rejection.result == _REJECTED_TRANSIENT:
            return PeerUnavailableError(msg)
        return PeerNotReadyError(f"{msg}; check the AE titles on both sides")
    if link.rejected_contexts:
        return PeerRefusedError(describe(destination, "accepts none of the proposed SOP classes"))
    if destination.tls is not None:
        what = "could not be reached with TLS: see that it speaks it, and that each side's "
        what += "certificate is of an authority the other believes, names the host and is valid"
        return PeerUnavailableError(describe(destination, what))
    return PeerUnavailableError(describe(destination, "could not be reached"))


def _tls(destination: DimseDestination) -> tuple[ssl.SSLContext, str] | None:
    """Give pynetdicom for TLS a context, and the name that has to be in the certificate."""
    if destination.tls is None:
        return None
    try:
        context = client_context(destination.tls)
    except ConfigurationError as error:
        raise PeerNotReadyError(describe(destination, f"is not called: {error}")) from error
    return context, destination.server_name or destination.host
