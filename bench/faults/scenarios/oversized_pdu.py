"""PDUs that are too long, never end, or come faster than they are answered."""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING

from support.raw_association import (
    A_ASSOCIATE_AC,
    P_DATA_TF,
    VERIFICATION,
    association_request,
    command_fragment,
    connected,
    data_fragment,
    echo,
    echo_request,
    receive_pdu,
    store_request,
)

from bench.faults.abuse import Abuser, cost_at_rest, cost_of, peak_rss_kib
from bench.faults.listener import ListenerProcess
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.transport import LARGEST_ASSOCIATION_PDU

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
# As many as two addresses may have, but for two that are left for the C-ECHO that follows.
_SOURCES = ("127.0.0.1",) * 6 + ("127.0.0.2",) * 8
_LONGEST = struct.pack(">L", 0xFFFFFFFF)
_MOST_GROWTH_MIB = 50.0
_SENT_BYTES = 64 << 20
_REST_SECONDS = 45.0


def four_gib_request(port: int) -> None:
    """Declare an A-ASSOCIATE-RQ of 4 GiB and send 64 MiB of it."""
    with connected(port) as connection:
        _pour(connection, b"\x01\x00" + _LONGEST, bytes(1 << 20))


def four_gib_data(port: int) -> None:
    """Declare a P-DATA-TF of 4 GiB within an association."""
    with connected(port) as connection:
        _associate(connection)
        _pour(connection, bytes([P_DATA_TF, 0]) + _LONGEST, bytes(1 << 20))


def endless_command(port: int) -> None:
    """Send a command set without a last fragment."""
    with connected(port) as connection:
        _associate(connection)
        _pour(connection, b"", command_fragment(bytes(16_000), last=False) * 64)


def endless_data(port: int) -> None:
    """Send data sets without a last fragment, on all associations of two addresses at once."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(connected(port, source=each)) for each in _SOURCES]
        for number, connection in enumerate(connections):
            _associate(connection, _CT_IMAGE_STORAGE)
            connection.sendall(store_request(_CT_IMAGE_STORAGE, f"1.2.{number}"))
        for connection in connections:
            with contextlib.suppress(ConnectionError, TimeoutError):
                _pour(connection, b"", data_fragment(bytes(100_000), last=False))


def unread_answers(port: int) -> None:
    """Send C-ECHO upon C-ECHO and read no answer."""
    with connected(port) as connection:
        _associate(connection)
        connection.settimeout(2)
        _pour(connection, b"", echo_request() * 10_000)


def many_long_requests(port: int) -> None:
    """Hold 200 A-ASSOCIATE-RQs that are as long as they may be, without their ends."""
    longest = struct.pack(">BxL", 1, LARGEST_ASSOCIATION_PDU) + bytes(190_000)
    with Abuser(port, 200, opening=longest):
        time.sleep(1)


def empty_items(port: int) -> None:
    """Send A-ASSOCIATE-RQs that are made of empty items, which take longest to decode."""
    request = association_request()
    body = request[6:] + b"\x50\x00\x00\x00" * 45_000
    for _ in range(20):
        with connected(port) as connection:
            connection.sendall(struct.pack(">BxL", 1, len(body)) + body)
            receive_pdu(connection)


ATTACKS: tuple[Callable[[int], None], ...] = (
    four_gib_request,
    four_gib_data,
    endless_command,
    endless_data,
    unread_answers,
    many_long_requests,
    empty_items,
)


def run(trials: Trials, folder: Path) -> Outcome:
    """Attack one listener again and again; it has to answer in between and to grow little."""
    listener = ListenerProcess(folder)
    listener.start()
    problems = []
    try:
        for _ in range(20):
            echo(listener.port)
        base = cost_at_rest(listener.pid, cost_of(listener.pid), 1.0)
        for trial in trials.numbers:
            attack = ATTACKS[trial % len(ATTACKS)]
            with contextlib.suppress(ConnectionError, TimeoutError):
                attack(listener.port)
            echo(listener.port)
        most = peak_rss_kib(listener.pid)
        freed = time.monotonic()
        rest = cost_at_rest(listener.pid, base, _REST_SECONDS)
        recovery = time.monotonic() - freed
        if (rest.threads, rest.files) > (base.threads, base.files):
            problems.append(f"{rest} is left of {base}")
    finally:
        crashed = not listener.running
        listener.stop()
    growth = (most - base.rss_kib) / 1024
    return Outcome(
        trials=trials.count,
        acknowledged=trials.count,
        lost=int(crashed),
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=not problems and not crashed and growth <= _MOST_GROWTH_MIB,
        notes="; ".join([*problems, f"memory grew by {growth:.0f} MiB at most"]),
    )


def _associate(connection: socket.socket, sop_class: str = VERIFICATION) -> None:
    connection.sendall(association_request(sop_class=sop_class))
    kind, _ = receive_pdu(connection)
    if kind != A_ASSOCIATE_AC:
        raise AssertionError(f"the attack was not let in: PDU {kind}")


def _pour(connection: socket.socket, head: bytes, piece: bytes) -> None:
    """Send until 64 MiB are gone or the peer has had enough."""
    connection.sendall(head)
    for _ in range(_SENT_BYTES // len(piece)):
        connection.sendall(piece)


SCENARIO = Scenario(
    name="oversized_pdu",
    title="4 GiB PDUs, endless commands and data sets, empty items, answers nobody reads",
    passes_if="no crash, memory grows by 50 MiB at most, threads and descriptors are given back",
    trials=20 * len(ATTACKS),
    short_trials=2 * len(ATTACKS),
    batch=5 * len(ATTACKS),
    run=run,
)
