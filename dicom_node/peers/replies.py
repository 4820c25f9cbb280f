"""Replies are left to whoever waits for them.

Two threads of pynetdicom take messages off one queue: the one that sent a request takes its reply,
the association's own whatever the peer asks of us. The second is to pause for the first, but says
that it does a moment before it knows (`Association._run_reactor`). On a busy machine it then takes
a reply, or the sign that the connection is gone, which it has no use for; the first waits for its
whole timeout, and what was stored is sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynetdicom.association import Association


def keep_replies(link: Association) -> None:
    """Let the association's own thread take requests alone.

    Parameters
    ----------
    link
        An association of which we are the requestor, before its first request.
    """
    dimse = link.dimse
    take = dimse.get_msg

    def get_msg(block: bool = False) -> tuple[int | None, Any]:  # noqa: FBT001, FBT002 - as pynetdicom calls it
        # Its own thread is the only one that does not wait.
        if not block and not _is_request(dimse.peek_msg()[1]):
            return None, None
        return take(block=block)

    dimse.get_msg = get_msg  # type: ignore[assignment, method-assign]


def _is_request(message: object) -> bool:
    return message is not None and getattr(message, "MessageIDBeingRespondedTo", None) is None
