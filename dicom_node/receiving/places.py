"""How many connections there may be, counted from accept on, overall and for each address."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from socket import SHUT_RDWR
from typing import TYPE_CHECKING

from dicom_node.senders import parse_address

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection

    from pynetdicom.association import Association

    from dicom_node.config import ListenerConfig

# A sender that opens association upon association must not meet those it has just released; how
# many of them may be cleared away at once has its bound too.
_BEING_CLEARED_AWAY = 4


@dataclass(eq=False, slots=True)
class Place:
    """One connection.

    Attributes
    ----------
    address
        Where it comes from.
    connection
        Its socket; the one of TLS once that is around it.
    accepted
        When, by `time.monotonic`.
    silent
        Whether it has not sent a byte yet.
    given_up
        Whether it was closed to make room.
    association
        What became of it.
    """

    address: str
    connection: socket.socket
    accepted: float = field(default_factory=time.monotonic)
    silent: bool = True
    given_up: bool = False
    association: Association | None = None

    @property
    def is_over(self) -> bool:
        """Whether its association has ended for the peer, and only we still clear away."""
        ended = self.association
        return ended is not None and (ended.is_released or ended.is_aborted or ended.is_rejected)

    @property
    def neighbourhood(self) -> str:
        """What counts as one address: of IPv6 the /64, which one machine can have to itself."""
        address = parse_address(self.address)
        if address.version == 4:
            return str(address)
        return str(IPv6Network((address.packed, 64), strict=False))

    def wake_up(self) -> None:
        """End the connection under its thread, which then cleans up."""
        with suppress(OSError):
            self.connection.shutdown(SHUT_RDWR)


class Places:
    """Everybody who is connected.

    A connection waits until its A-ASSOCIATE-RQ is whole and may come in. One connection too many
    closes one that waits, of the address that has most: the oldest of those that are silent, or
    the oldest. Turning away the newest would let a few hundred idle sockets keep everybody out.
    Associations are never closed for others; one too many is rejected.

    Parameters
    ----------
    config
        Has the four limits.
    """

    def __init__(self, config: ListenerConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._waiting: dict[Place, str] = {}
        self._associated: dict[Place, str] = {}

    def enter(self, connection: socket.socket, address: str) -> tuple[Place, Place | None]:
        """Give a new connection a place.

        Returns
        -------
        Place
            For the new connection.
        Place or None
            The connection that was closed for it.
        """
        place = Place(address, connection)
        with self._lock:
            displaced = self._one_too_many(place.neighbourhood)
            if displaced is not None:
                del self._waiting[displaced]
                displaced.given_up = True
            self._waiting[place] = place.neighbourhood
        if displaced is not None:
            displaced.wake_up()
        return place, displaced

    def associate(self, place: Place) -> str | None:
        """Turn a waiting connection into an association.

        Returns
        -------
        str or None
            None where it may, else a sentence that names the limit.
        """
        overall, of_address = (
            self._config.maximum_associations,
            self._config.maximum_associations_per_address,
        )
        neighbourhood = place.neighbourhood
        with self._lock:
            if place.given_up:
                return "The connection was closed to make room."
            here = [each for each, where in self._associated.items() if where == neighbourhood]
            if _too_many(self._associated, overall):
                return f"All {overall} associations are in use."
            if _too_many(here, of_address):
                return f"All {of_address} associations of one address are in use."
            self._waiting.pop(place, None)
            self._associated[place] = neighbourhood
        return None

    def leave(self, place: Place) -> None:
        """Give the place back."""
        with self._lock:
            self._waiting.pop(place, None)
            self._associated.pop(place, None)

    def close_waiting(self) -> None:
        """Close the connections that wait; their threads wake up and clean up."""
        with self._lock:
            waiting = list(self._waiting)
            for place in waiting:
                place.given_up = True
        for place in waiting:
            place.wake_up()

    def associations(self) -> list[Association]:
        """List the associations."""
        with self._lock:
            found = [place.association for place in self._associated]
        return [association for association in found if association is not None]

    def _one_too_many(self, neighbourhood: str) -> Place | None:
        """Choose who has to go; dictionaries keep the order of arrival."""
        waiting = Counter(self._waiting.values())
        if waiting[neighbourhood] >= self._config.maximum_waiting_per_address:
            crowded = neighbourhood
        elif len(self._waiting) >= self._config.maximum_waiting:
            crowded = waiting.most_common(1)[0][0]
        else:
            return None
        there = [place for place, each in self._waiting.items() if each == crowded]
        return next((place for place in there if place.silent), there[0])


def _too_many(places: Collection[Place], limit: int) -> bool:
    """Tell whether there is no room for one more association."""
    if len(places) >= _BEING_CLEARED_AWAY * limit:
        return True
    return sum(not place.is_over for place in places) >= limit
