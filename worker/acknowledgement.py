"""Acknowledging a message to a broker that does not answer, without losing a worker by it."""

from __future__ import annotations

from kombu.transport.redis import Channel, QoS
from kombu.transport.virtual import QoS as VirtualQoS


class ForgivingQoS(QoS):
    """Counts a message as done here also where the broker could not be told.

    A worker takes one message at a time. kombu counts one that could not be acknowledged as still
    at work, for as long as the connection lives; a broker that stood still for some seconds breaks
    none. The worker would never ask for another message. What the broker has not heard it gives
    out again after its visibility timeout, and the claim in the database settles that.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message.

        Raises
        ------
        redis.exceptions.RedisError
            If the broker does not answer; the message counts as done here nevertheless.
        """
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            VirtualQoS.ack(self, delivery_tag)  # type: ignore[no-untyped-call]
            raise


def forgive_failed_acknowledgements() -> None:
    """Let every channel to Redis of this process count so."""
    Channel.QoS = ForgivingQoS
