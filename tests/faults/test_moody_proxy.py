"""The proxy spoils the replies of a PACS as it says, and nothing else."""

import time

import pytest
from pynetdicom import AE
from support.raw_association import (
    A_ASSOCIATE_AC,
    P_DATA_TF,
    association_request,
    connected,
    echo,
    echo_request,
    receive_pdu,
)

from bench.faults.moody_proxy import Mood, MoodyProxy

DELAY_SECONDS = 0.8


@pytest.fixture
def proxy():
    ae = AE("LUNGWATCH")
    ae.add_supported_context("1.2.840.10008.1.1")
    server = ae.start_server(("127.0.0.1", 0), block=False)
    with MoodyProxy(server.server_address[1], DELAY_SECONDS) as proxy:
        yield proxy
    server.shutdown()


def reply(proxy, timeout=10.0):
    """The reply to a C-ECHO on an association that was accepted whatever the mood."""
    with connected(proxy.port, timeout=timeout) as connection:
        connection.sendall(association_request())
        assert receive_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(echo_request())
        return receive_pdu(connection)


def test_a_well_proxy_passes_everything_on(proxy):
    echo(proxy.port)
    assert proxy.spoilt.total() == 0


def test_a_cut_reply_is_the_end_of_the_connection(proxy):
    proxy.set_mood(Mood.CUTS)
    assert reply(proxy) == (0, b"")
    assert proxy.spoilt == {Mood.CUTS: 1}


def test_of_a_halved_reply_the_end_is_missing(proxy):
    kind, whole = reply(proxy)
    proxy.set_mood(Mood.HALVES)
    assert (kind, reply(proxy)) == (P_DATA_TF, (P_DATA_TF, whole[: (len(whole) + 6) // 2 - 6]))


def test_a_delayed_reply_comes_late_and_whole(proxy):
    kind, whole = reply(proxy)
    proxy.set_mood(Mood.DELAYS)
    started = time.monotonic()
    assert (kind, whole) == reply(proxy)
    assert time.monotonic() - started >= DELAY_SECONDS


def test_a_dropped_reply_leaves_the_connection_open(proxy):
    proxy.set_mood(Mood.DROPS)
    with pytest.raises(TimeoutError):
        reply(proxy, timeout=0.5)
    proxy.set_mood(Mood.WELL)
    echo(proxy.port)


def test_a_pacs_that_is_away_hangs_up_on_its_callers():
    with MoodyProxy(1, DELAY_SECONDS) as proxy, connected(proxy.port) as connection:
        assert receive_pdu(connection) == (0, b"")
