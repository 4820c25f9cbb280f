"""A broker that stands still as a message is acknowledged costs no worker."""

from __future__ import annotations

import os
import signal

import pytest
from kombu import Connection, Queue
from redis.exceptions import RedisError

from worker.acknowledgement import ForgivingQoS, forgive_failed_acknowledgements


def test_a_worker_takes_messages_after_the_broker_stood_still(redis_server, redis_url):
    forgive_failed_acknowledgements()
    timeouts = {"socket_timeout": 0.5, "retry_on_timeout": False}
    with Connection(redis_url, transport_options=timeouts) as connection:
        channel = connection.channel()
        assert isinstance(channel.qos, ForgivingQoS)
        channel.basic_qos(prefetch_size=0, prefetch_count=1, apply_global=False)
        queue = Queue("screening", channel=channel)
        queue.declare()
        producer = connection.Producer(channel)
        for number in (1, 2):
            producer.publish({"screening": number}, routing_key="screening")
        first = queue.get()
        assert first is not None
        assert not channel.qos.can_consume()
        os.kill(redis_server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisError):
                first.ack()
        finally:
            os.kill(redis_server.pid, signal.SIGCONT)
        assert channel.qos.can_consume()
        second = queue.get()
        assert second is not None
        assert second.payload == {"screening": 2}
        second.ack()
