"""The first layer of retrying: seconds, for a peer that could not be reached at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import stamina

from dicom_node.errors import PeerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

ATTEMPTS = 3
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 4.0
GIVE_UP_AFTER_SECONDS = 45.0


def retry_within_seconds(call: Callable[[], Result]) -> Result:
    """Call until the peer is there, three times at most.

    The second layer, minutes to hours, is the outbox's; this one only spares it the restart of
    a service or a dropped packet.

    Parameters
    ----------
    call
        Must raise `PeerUnavailableError` only where nothing was achieved yet.
    """
    # A context rather than a decorator: stamina logs the arguments of what it retries.
    for attempt in stamina.retry_context(
        on=PeerUnavailableError,
        attempts=ATTEMPTS,
        timeout=GIVE_UP_AFTER_SECONDS,
        wait_initial=FIRST_WAIT_SECONDS,
        wait_max=LONGEST_WAIT_SECONDS,
    ):
        with attempt:
            return call()
    raise AssertionError  # stamina raises the last error itself
