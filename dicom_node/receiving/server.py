"""The server under the listener: what pynetdicom's own does not do for a connection.

pynetdicom shakes hands of TLS in the loop that accepts, so that one silent peer stops everybody;
it builds an association, with two threads that poll and a copy of every presentation context,
before a byte was sent; it reads PDUs without a deadline and buffers messages without a limit; and
it counts established associations only. Here each connection has a thread of its own from accept
on, which shakes hands, reads the first PDU and asks who it is, all by one deadline. Only who may
come in gets an association of pynetdicom's, and its socket is one with deadlines. The thread
stays until that has ended, and closes the connection whatever happened.
"""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from pynetdicom.transport import (
    AddressInformation,
    AssociationSocket,
    ThreadedAssociationServer,
)

from dicom_node.receiving import association_request as first_pdu
from dicom_node.receiving.guarded_association import GuardedAssociation
from dicom_node.receiving.places import Place, Places
from dicom_node.transport import (
    LARGEST_ASSOCIATION_PDU,
    PDU_HEADER_BYTES,
    OversizedPduError,
    PduStream,
    close,
    read_exactly,
    shake_hands,
    wait_for_data,
    write_all,
)

if TYPE_CHECKING:
    import ssl

    from pynetdicom import AE
    from pynetdicom.events import EventHandlerType
    from pynetdicom.presentation import PresentationContext

    from dicom_node.config import ListenerConfig
    from dicom_node.receiving.gate import Gate

logger = logging.getLogger(__name__)

# A request of 128 presentation contexts with twenty transfer syntaxes each; longer ones are read
# a few at a time, so that many of them do not fill the memory.
_USUAL_REQUEST_BYTES = 64 * 1024
_LONG_REQUESTS_AT_ONCE = 32
# Of a command set, a few hundred bytes are usual and 64 KiB beyond every use.
_LARGEST_COMMAND_BYTES = 64 * 1024
# Messages a peer may send ahead of our answers; PS3.7 annex D.3.3.3 has us negotiate one.
_MESSAGES_AHEAD = 2
# How often the loop that accepts looks whether to stop.
_POLL_SECONDS = 0.1
# How long a rejected peer has to close the connection, which is its part (PS3.8 table 9-10, AA-2).
_PARTING_SECONDS = 2.0


class GuardedServer(ThreadedAssociationServer):
    """Accepts connections and gives each a thread.

    Parameters
    ----------
    ae
        Names us and holds the time limits.
    config
        Where to listen, and the limits.
    gate
        Decides who comes in, and notes who does not.
    contexts
        Presentation contexts that are accepted.
    handlers
        What answers the associations' events.
    """

    daemon_threads = True
    block_on_close = False
    # With pynetdicom's five a burst of connections waits for its SYN to be sent again.
    request_queue_size = 256

    def __init__(
        self,
        ae: AE,
        config: ListenerConfig,
        gate: Gate,
        contexts: list[PresentationContext],
        handlers: list[EventHandlerType],
    ) -> None:
        self._config = config
        self._gate = gate
        self._places = Places(config)
        self._long_requests = threading.BoundedSemaphore(_LONG_REQUESTS_AT_ONCE)
        super().__init__(
            ae, (config.host, config.port), config.ae_title, contexts, evt_handlers=handlers
        )

    def start(self) -> None:
        """Accept connections, in a thread."""
        # Where pynetdicom's shutdown() looks for it.
        self.ae._servers.append(self)  # noqa: SLF001
        threading.Thread(
            target=self.serve_forever, args=(_POLL_SECONDS,), name="listener", daemon=True
        ).start()

    def stop(self, timeout: float) -> None:
        """Accept no more, give associations some seconds to end, then abort what is left."""
        self.shutdown()
        self._places.close_waiting()
        deadline = time.monotonic() + timeout
        while self._places.associations() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._places.associations():
            association.abort()

    def service_actions(self) -> None:
        """Do nothing between two connections; pynetdicom collects garbage, which stops us all."""

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Give a new connection a place and a thread."""
        place, displaced = self._places.enter(request, client_address[0])
        if displaced is not None:
            self._gate.note_crowd(displaced.address)
        try:
            threading.Thread(
                target=self._serve, args=(place, client_address), name="connection", daemon=True
            ).start()
        except RuntimeError:
            logger.exception("no thread for a connection")
            self._places.leave(place)
            close(request)

    def _serve(self, place: Place, client_address: tuple[Any, ...]) -> None:
        """Live the life of a connection."""
        try:
            association = self._admit(place, client_address)
            if association is not None:
                association.start()
                association.join()
                # Its other thread, which the socket's deadlines bound.
                association.dul.join()
                association.let_go()
        except OSError:
            logger.debug("a connection ended early", exc_info=True)
        except Exception:
            logger.exception("a connection failed")
        finally:
            self._places.leave(place)
            close(place.connection)

    def _admit(self, place: Place, client_address: tuple[Any, ...]) -> GuardedAssociation | None:
        """Bring a connection as far as an association, None where it does not get there."""
        deadline = place.accepted + self._config.acse_timeout
        place.connection.settimeout(0)
        try:
            wait_for_data(place.connection, deadline)
        except TimeoutError:
            self._note_silence(place)
            return None
        if not place.connection.recv(1, socket.MSG_PEEK):
            return None  # A health check that connects and closes.
        place.silent = False
        if self._gate.tls is not None and not self._encrypt(place, self._gate.tls, deadline):
            return None
        pdu = self._first_pdu(place, deadline)
        if pdu is None:
            return None
        try:
            request = first_pdu.parse_association_request(pdu)
            answer = self._gate.judge(request, place)
            # Not before it may come in: it takes pynetdicom long.
            decoded = None if answer else first_pdu.decode_association_request(pdu)
        except first_pdu.NoAssociationRequestError as error:
            self._gate.note_no_request(place.address, str(error))
            answer = error.answer
        else:
            answer = answer or self._gate.seat(request, place, self._places)
        if answer or decoded is None:
            self._part(place, answer or first_pdu.abort())
            return None
        association = place.association = self._association(place, client_address)
        # What pynetdicom does once it has read the PDU itself (PS3.8 table 9-10, Evt6).
        association.dul._recv_pdu.put(decoded)  # noqa: SLF001
        association.dul.event_queue.put("Evt6")
        return association

    def _encrypt(self, place: Place, context: ssl.SSLContext, deadline: float) -> bool:
        try:
            connection = context.wrap_socket(
                place.connection, server_side=True, do_handshake_on_connect=False
            )
            place.connection = connection
            if place.given_up:
                return False
            shake_hands(connection, deadline)
        except OSError as error:
            if not place.given_up:
                self._gate.note_no_tls(place.address, error)
            return False
        return True

    def _first_pdu(self, place: Place, deadline: float) -> bytes | None:
        try:
            header = read_exactly(place.connection, PDU_HEADER_BYTES, deadline)
            if len(header) < PDU_HEADER_BYTES:
                return None
            (length,) = struct.unpack_from(">L", header, 2)
            if length > LARGEST_ASSOCIATION_PDU:
                self._gate.note_no_request(place.address, f"the first PDU declares {length} bytes")
                return None
            if length > _USUAL_REQUEST_BYTES:
                body = self._read_long_request(place, length, deadline)
            else:
                body = read_exactly(place.connection, length, deadline)
        except TimeoutError:
            self._note_silence(place)
            return None
        return bytes(header + body) if len(body) == length else None

    def _read_long_request(self, place: Place, length: int, deadline: float) -> bytearray:
        """Read a request for which there is not room in every connection's hands at once."""
        if not self._long_requests.acquire(blocking=False):
            self._gate.note_no_request(place.address, "too many long requests at once")
            return bytearray()
        try:
            return read_exactly(place.connection, length, deadline)
        finally:
            self._long_requests.release()

    def _note_silence(self, place: Place) -> None:
        if not place.given_up:
            self._gate.note_silence(place.address)

    def _part(self, place: Place, answer: bytes) -> None:
        """Send the last PDU and let the peer close the connection, which then loses nothing."""
        deadline = time.monotonic() + _PARTING_SECONDS
        write_all(place.connection, answer, deadline)
        while read_exactly(place.connection, 4096, deadline):
            pass

    def _association(self, place: Place, client_address: tuple[Any, ...]) -> GuardedAssociation:
        """Build what pynetdicom builds, around a socket with deadlines."""
        association = GuardedAssociation(self.ae)
        association._server = self  # noqa: SLF001
        association.name = "association"
        association.dul.daemon = True
        association.set_socket(_GuardedSocket(association, place.connection, self._config))
        acceptor = association.acceptor
        acceptor.maximum_length = self.ae.maximum_pdu_size
        acceptor.ae_title = self.ae_title
        acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        acceptor.implementation_class_uid = self.ae.implementation_class_uid
        acceptor.implementation_version_name = self.ae.implementation_version_name
        # Negotiation reads and changes none of them; copying them took 40 ms for each connection.
        acceptor.supported_contexts = self.contexts
        association.requestor.address_info = AddressInformation.from_tuple(client_address)
        # One handler for an event that is answered, a list of them for one that is told.
        bound: dict[Any, Any] = self._handlers
        for event, handlers in bound.items():
            for handler in [handlers] if event.is_intervention else handlers:
                association.bind(event, *handler)
        return association


class _GuardedSocket(AssociationSocket):
    """pynetdicom's socket, with a deadline for each PDU and a limit to what waits."""

    def __init__(
        self, association: GuardedAssociation, connection: socket.socket, config: ListenerConfig
    ) -> None:
        super().__init__(association, client_socket=connection)
        self._association = association
        self._stream = PduStream(
            connection,
            timeout=config.network_timeout,
            largest=max(config.maximum_pdu_size, LARGEST_ASSOCIATION_PDU),
        )

    @property
    def ready(self) -> bool:
        """Whether to read: not while the peer is ahead of our answers, so that it has to wait."""
        if self.socket is None or not self._is_connected:
            return False
        waiting = max(self.assoc.dimse.msg_queue.qsize(), self._association.serving)
        return waiting < _MESSAGES_AHEAD and self._stream.has_begun()

    def recv(self, nr_bytes: int) -> bytearray:
        """Read the next part of a PDU."""
        message = self.assoc.dimse.message
        if message is not None and message.encoded_command_set.tell() > _LARGEST_COMMAND_BYTES:
            msg = "the command set has no end"
            raise OversizedPduError(msg)
        return self._stream.receive(nr_bytes)

    def send(self, bytestream: bytes) -> None:
        """Write a PDU."""
        try:
            self._stream.send(bytestream)
        except OSError:
            self.event_queue.put("Evt17")  # Transport connection closed (PS3.8 table 9-10).

    def close(self) -> None:
        """Close the connection, and tell the state machine once."""
        if self.socket is None:
            return
        close(self.socket)
        self.socket = None
        self._is_connected = False
        self.event_queue.put("Evt17")
