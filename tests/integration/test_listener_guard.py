"""No peer holds the listener: deadlines for whole PDUs, caps, and everything given back."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.certificates import Authority
from support.raw_association import (
    A_ASSOCIATE_AC,
    association_request,
    command_fragment,
    connected,
    echo,
    echo_request,
    pdu,
    receive_pdu,
)

from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dicom_node.receiving.spool import Spool
    from dicom_node.tls import TlsFiles

A_ASSOCIATE_RJ, A_ABORT = 3, 7


@pytest.fixture
def start_listener(spool: Spool) -> Iterator[Callable[..., Listener]]:
    started: list[Listener] = []

    def start(**changes: object) -> Listener:
        settings = {
            "ae_title": "LUNGWATCH",
            "host": "127.0.0.1",
            "port": 0,
            "spool_dir": spool.root,
            "allowed_calling_ae_titles": frozenset({"STORESCU"}),
            "minimum_free_bytes": 0,
        }
        listener = Listener(ListenerConfig(**settings | changes), spool)
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop(timeout=1)


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return authority.issue("node", alternative="IP:127.0.0.1")


def reasons(spool: Spool) -> list[str]:
    return sorted(note.reason for _, note in spool.refusals())


def noted(spool: Spool, reason: str) -> bool:
    """Whether a reason is noted, within two seconds: the peer may know before the note is there."""
    deadline = time.monotonic() + 2
    while reason not in reasons(spool) and time.monotonic() < deadline:
        time.sleep(0.01)
    return reason in reasons(spool)


def seconds_until_closed(connection: socket.socket, drip: bytes = b"") -> float:
    """Send a byte every 50 ms, as long as the connection lives."""
    started = time.monotonic()
    connection.settimeout(0.05)
    while time.monotonic() - started < 10:
        try:
            if connection.recv(100) == b"":
                break
        except TimeoutError:
            with contextlib.suppress(OSError):
                connection.send(drip[:1])
        except OSError:
            break
    return time.monotonic() - started


@pytest.mark.parametrize(("sent", "drip"), [(b"", b""), (association_request()[:40], b"\0")])
def test_a_request_that_does_not_end_has_one_deadline(
    start_listener: Callable[..., Listener], spool: Spool, sent: bytes, drip: bytes
) -> None:
    listener = start_listener(acse_timeout=1.0)
    with connected(listener.port) as connection:
        connection.sendall(sent)
        assert 0.5 < seconds_until_closed(connection, drip) < 5
    assert noted(spool, "no_association_request")


@pytest.mark.parametrize("shakes_hands", [True, False])
def test_tls_has_the_same_deadline(
    start_listener: Callable[..., Listener],
    spool: Spool,
    tls_files: TlsFiles,
    *,
    shakes_hands: bool,
) -> None:
    listener = start_listener(acse_timeout=1.0, tls=tls_files)
    tls = client_context(tls_files)
    with connected(listener.port, tls=tls if shakes_hands else None) as connection:
        assert echo(listener.port, tls=tls) < 5
        assert 0.3 < seconds_until_closed(connection) < 5
    assert noted(spool, "no_association_request")


def test_data_that_drips_has_one_deadline_for_the_whole_pdu(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener(network_timeout=1.0)
    with connected(listener.port) as connection:
        connection.sendall(association_request())
        assert receive_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(struct.pack(">BxL", 4, 16000))
        assert 0.5 < seconds_until_closed(connection, b"\0") < 5


def test_an_idle_association_is_ended(start_listener: Callable[..., Listener]) -> None:
    listener = start_listener(network_timeout=1.0)
    with connected(listener.port) as connection:
        connection.sendall(association_request())
        assert receive_pdu(connection)[0] == A_ASSOCIATE_AC
        started = time.monotonic()
        assert receive_pdu(connection)[0] == A_ABORT
        assert 0.5 < time.monotonic() - started < 5


def test_one_address_has_its_share_of_the_associations(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_associations=3, maximum_associations_per_address=2)
    with contextlib.ExitStack() as stack:
        answers = []
        for source in ["127.0.0.1"] * 3 + ["127.0.0.2"] * 2:
            connection = stack.enter_context(connected(listener.port, source=source))
            connection.sendall(association_request())
            answers.append(receive_pdu(connection))
    accepted, rejected = (A_ASSOCIATE_AC, A_ASSOCIATE_RJ)
    assert [kind for kind, _ in answers] == [accepted, accepted, rejected, accepted, rejected]
    # Transient, presentation provider, local limit exceeded (PS3.8 table 9-21).
    assert answers[2][1] == bytes([0, 2, 3, 2])
    assert reasons(spool) == ["too_many_associations"] * 2
    assert echo_when_free(listener.port) < 5


def test_an_association_that_was_released_is_in_nobodys_way(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_associations=1)
    for _ in range(30):
        assert echo(listener.port) < 5
    assert reasons(spool) == []


def echo_when_free(port: int) -> float:
    """Ask until the associations of before are over."""
    for _ in range(200):
        with contextlib.suppress(AssertionError):
            return echo(port)
        time.sleep(0.02)
    return echo(port)


def test_one_connection_too_many_closes_a_silent_one_and_never_the_new_one(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_waiting_per_address=4)
    with contextlib.ExitStack() as stack:
        speaking = stack.enter_context(connected(listener.port))
        speaking.sendall(association_request()[:10])
        time.sleep(0.2)
        silent = [stack.enter_context(connected(listener.port)) for _ in range(5)]
        assert seconds_until_closed(silent[0]) < 4
        assert seconds_until_closed(silent[1]) < 4
        assert echo(listener.port) < 5
        speaking.sendall(association_request()[10:])
        assert receive_pdu(speaking)[0] == A_ASSOCIATE_AC
    assert "too_many_connections" in reasons(spool)


@pytest.mark.parametrize(
    "first",
    [
        echo_request(),
        pdu(1, bytes(20)),
        pdu(1, association_request()[6:] + b"\x50\0\0\0" * 9000),
        pdu(1, association_request()[6:-4]),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        bytes([1, 0]) + b"\xff" * 4,
    ],
)
def test_what_is_no_request_is_turned_away_and_noted(
    start_listener: Callable[..., Listener], spool: Spool, first: bytes
) -> None:
    listener = start_listener()
    with connected(listener.port) as connection:
        connection.sendall(first)
        assert receive_pdu(connection)[0] in {0, A_ABORT}
    assert noted(spool, "no_association_request")
    assert echo(listener.port) < 5


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_health_check_that_connects_and_closes_is_nothing_to_note(
    start_listener: Callable[..., Listener], spool: Spool, tls_files: TlsFiles, *, encrypted: bool
) -> None:
    listener = start_listener(tls=tls_files if encrypted else None)
    for _ in range(5):
        with connected(listener.port):
            pass
    assert echo(listener.port, tls=client_context(tls_files) if encrypted else None) < 5
    assert reasons(spool) == []


def test_a_command_without_end_ends_the_association(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener()
    with connected(listener.port) as connection:
        connection.sendall(association_request())
        assert receive_pdu(connection)[0] == A_ASSOCIATE_AC
        fragments = command_fragment(bytes(16_000), last=False) * 1000
        with pytest.raises(ConnectionError):
            connection.sendall(fragments)


def test_requests_sent_ahead_wait_and_are_all_answered(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener()
    with connected(listener.port) as connection:
        connection.sendall(association_request())
        assert receive_pdu(connection)[0] == A_ASSOCIATE_AC
        connection.sendall(echo_request() * 50)
        assert [receive_pdu(connection)[0] for _ in range(50)] == [4] * 50


def test_threads_and_descriptors_are_given_back(
    start_listener: Callable[..., Listener], tls_files: TlsFiles
) -> None:
    listener = start_listener(acse_timeout=1.0, network_timeout=1.0)
    echo(listener.port)
    before = taken_at_rest()
    with contextlib.ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(connected(listener.port))
            connection.sendall(association_request()[: (number % 4) * 30])
        for _ in range(8):
            connection = stack.enter_context(connected(listener.port))
            connection.sendall(association_request() + pdu(4, bytes(100))[:50])
            # Reset: a shutdown of the socket fails then, and pynetdicom would not close it.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert taken_at_rest(before) == before


def taken_at_rest(expected: tuple[int, int] | None = None) -> tuple[int, int]:
    """Threads and descriptors of this process, once they are as expected or five seconds went."""
    deadline = time.monotonic() + (5 if expected else 0.5)
    while True:
        taken = (threading.active_count(), len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        if taken == expected or time.monotonic() > deadline:
            return taken
        time.sleep(0.05)


def test_stop_does_not_wait_for_those_who_only_connected(
    start_listener: Callable[..., Listener],
) -> None:
    listener = start_listener()
    with connected(listener.port) as connection:
        started = time.monotonic()
        listener.stop(timeout=5)
        assert time.monotonic() - started < 2
        assert seconds_until_closed(connection) < 5
