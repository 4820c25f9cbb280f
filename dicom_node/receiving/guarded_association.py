"""pynetdicom's association, which ends in good order whatever its peer sends.

An exception in one of an association's threads ends that thread alone. Its other thread then holds
the connection, and with it one of the few places, for as long as the peer likes: a presentation
context without an abstract syntax is enough. pynetdicom decodes command sets (PS3.7 section 6.3)
and takes A-ABORT PDUs apart where nothing catches what it trips over. Here each of these ends the
association with an A-ABORT.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from pynetdicom.association import Association
from pynetdicom.fsm import StateMachine

from dicom_node.receiving.association_request import abort

if TYPE_CHECKING:
    from pynetdicom import AE
    from pynetdicom.dul import DULServiceProvider

logger = logging.getLogger(__name__)


class GuardedAssociation(Association):
    """An association as acceptor.

    Parameters
    ----------
    ae
        Names us and holds the time limits.
    """

    def __init__(self, ae: AE) -> None:
        super().__init__(ae, "acceptor")
        self._serving: set[int] = set()
        self.dul.state_machine = _GuardedStateMachine(self.dul)

    @property
    def serving(self) -> int:
        """How many requests are being answered; pynetdicom takes a thread for some of them."""
        return len(self._serving)

    def run_reactor(self) -> None:
        """Negotiate and serve, then let go of the other thread, whatever ended this one."""
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - pynetdicom raises whatever it trips over
            _note(error)
            _send_abort(self.dul)
        finally:
            self.dul.kill_dul()

    def let_go(self) -> None:
        """Let go of the data sets that were never answered, once both threads have ended.

        An association is garbage only when the collector comes round, and they may be long.
        """
        self.dimse.message = None
        self.dimse.msg_queue = queue.Queue()

    def _serve_request(self, msg: Any, context_id: int) -> None:  # noqa: ANN401
        thread = threading.get_ident()
        self._serving.add(thread)
        try:
            super()._serve_request(msg, context_id)
        except Exception as error:  # noqa: BLE001 - pynetdicom raises whatever it trips over
            _note(error)
            _send_abort(self.dul)
            self.dul.kill_dul()
        finally:
            self._serving.discard(thread)


class _GuardedStateMachine(StateMachine):
    """The state machine (PS3.8 section 9.2), whose actions raise nothing."""

    def do_action(self, event: str) -> None:
        """Do what follows from an event, or end the association."""
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - pynetdicom raises whatever it trips over
            _note(error)
            _send_abort(self.dul)
            self.dul.kill_dul()


def _note(error: Exception) -> None:
    # What it says may hold what was sent.
    logger.warning("an association was ended at a %s in what was sent", type(error).__name__)


def _send_abort(dul: DULServiceProvider) -> None:
    if dul.socket is not None and dul.socket.socket is not None:
        # Past the state machine, which cannot be relied on any more.
        dul.socket.send(abort())
