"""The listener's way from bytes to answers in one thread, at a rate no socket allows."""

from __future__ import annotations

import contextlib
import queue
import socket
from typing import TYPE_CHECKING
from unittest.mock import patch

from support.pdu_corpus import is_whole

from dicom_node.receiving.places import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pynetdicom.association import Association

    from dicom_node.receiving.server import GuardedServer

_STEPS = 10_000
_PEER = ("127.0.0.1", 104)


def converse(server: GuardedServer, pdus: Sequence[bytes]) -> str:
    """Let a server that does not run read a conversation, in this thread, to its end.

    Everything is the server's own but the two threads of an association, which are stepped in
    turn: what would end one of them with an exception is raised here.

    Returns
    -------
    str
        State of the association's machine at the end (PS3.8 table 9-10), or ``""`` where there was
        none.
    """
    with socket.create_server(("127.0.0.1", 0)) as door:
        theirs = socket.create_connection(door.getsockname())
        ours, _ = door.accept()
    with ours, theirs:
        theirs.settimeout(0)
        theirs.sendall(pdus[0])
        if not is_whole(pdus[0]):
            theirs.shutdown(socket.SHUT_WR)
        place = Place(_PEER[0], ours)
        try:
            # Nobody is there to close the connection after a rejection.
            with patch("dicom_node.receiving.server._PARTING_SECONDS", 0):
                association = server._admit(place, _PEER)
            if association is not None:
                _run(association, lambda: _send_rest(theirs, pdus[1:]))
        except OSError:
            # As in the thread of a connection that ends early.
            return ""
        finally:
            server._places.leave(place)
    return association.dul.state_machine.current_state if association is not None else ""


def _send_rest(connection: socket.socket, pdus: Sequence[bytes]) -> None:
    # What the buffers do not take is cut off, as a peer that goes away cuts it off.
    with contextlib.suppress(OSError):
        connection.sendall(b"".join(pdus))
        connection.shutdown(socket.SHUT_WR)


def _run(association: Association, on_established: Callable[[], None]) -> None:
    """Step both reactors as pynetdicom's own loops do, until one of them would end."""
    dul = association.dul
    # Nobody may wait for threads that there are not.
    association._started_dul = True
    association.abort = association._abort_nonblocking
    for _ in range(_STEPS):
        if not dul._process_recv_primitive():
            dul._is_transport_event()
        with contextlib.suppress(queue.Empty):
            dul.state_machine.do_action(dul.event_queue.get(block=False))
        if association.requestor.primitive is None:
            if not _negotiate(association):
                continue
            on_established()
        if dul._kill_thread or association._kill or _serve(association):
            return
    raise AssertionError(f"the association does not end: {dul.state_machine.current_state}")


def _negotiate(association: Association) -> bool:
    """Answer the A-ASSOCIATE-RQ once it is there; tell whether it was."""
    association.requestor.primitive = association.dul.receive_pdu()
    if association.requestor.primitive is None:
        return False
    association.acse.negotiate_association()
    return True


def _serve(association: Association) -> bool:
    """One turn of the association's own reactor; tell whether it was the last."""
    acse, dul = association.acse, association.dul
    context, message = association.dimse.get_msg()
    if message:
        association._serve_request(message, context)
    if acse.is_release_requested():
        acse.send_release(is_response=True)
        association.is_released = True
        dul.receive_pdu()
    return bool(acse.is_aborted())
