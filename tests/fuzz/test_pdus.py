"""What reads the network, under mutated PDUs: nothing raises, nothing hangs, nothing stays open.

`LUNGWATCH_FUZZ_EXAMPLES` asks for as many conversations; a million PDUs over sockets are a
scenario of `make faults`.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import pdu_corpus, raw_association
from support.pdu_mutators import conversations
from support.pdu_reader import converse

from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.server import GuardedServer
from dicom_node.receiving.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")

CORPUS = Path(__file__).parent / "corpus"
_MUTATED = int(os.environ.get("LUNGWATCH_FUZZ_EXAMPLES", "1000"))
A_ASSOCIATE_RJ, A_ABORT = 3, 7
# A reserved value of an A-ABORT's source (PS3.8 table 9-26).
_ABORT_FROM_NOBODY = raw_association.pdu(7, b"\0\0\x2f\0")


@pytest.fixture
def config(tmp_path: Path) -> ListenerConfig:
    return ListenerConfig(
        ae_title=pdu_corpus.CALLED,
        host="127.0.0.1",
        port=0,
        spool_dir=tmp_path / "spool",
        allowed_calling_ae_titles=frozenset({pdu_corpus.CALLING}),
        minimum_free_bytes=0,
    )


@pytest.fixture
def listener(config: ListenerConfig) -> Iterator[Listener]:
    listener = Listener(config, Spool(config.spool_dir))
    listener.start()
    yield listener
    listener.stop(timeout=2)


@pytest.fixture
def reader(config: ListenerConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[GuardedServer]:
    """The listener's server with all that belongs to it, but without its loop and threads."""
    monkeypatch.setattr(GuardedServer, "start", lambda _self: None)
    listener = Listener(config, Spool(config.spool_dir))
    listener.start()
    yield listener._server
    listener._server.server_close()


def test_the_corpus_is_what_pynetdicom_encodes() -> None:
    corpus = pdu_corpus.read_corpus(CORPUS)
    assert corpus == pdu_corpus.conversations()
    assert sum(len(b"".join(pdus)) for pdus in corpus.values()) < 10_000


def test_the_seeds_are_understood(reader: GuardedServer, config: ListenerConfig) -> None:
    corpus = pdu_corpus.read_corpus(CORPUS)
    ends = {name: converse(reader, pdus) for name, pdus in corpus.items()}
    # Released or aborted as asked (Sta1), or answered with an A-ABORT (Sta13).
    assert {name for name, state in ends.items() if state == "Sta13"} == {
        "other_services",
        "responses",
    }
    assert set(ends.values()) == {"Sta1", "Sta13"}
    assert len(list(Spool(config.spool_dir).inbox())) == 1


def test_mutated_pdus_raise_nothing_and_come_to_an_end(reader: GuardedServer) -> None:
    threads = threading.active_count()
    corpus = pdu_corpus.read_corpus(CORPUS)
    ends = {converse(reader, pdus) for pdus in conversations(corpus, "fuzz", _MUTATED)}
    # Some get through, some are cut off on the way, some never become an association.
    assert ends >= {"", "Sta1", "Sta13"}
    assert reader._places.associations() == []
    assert threading.active_count() <= threads


def element(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, tag, len(value)) + value


CRASHES = {
    # Each of them ended a thread of pynetdicom 3.0.4 and left the other one holding the connection.
    "no_kind_of_data_set": raw_association.command_fragment(element(0x100, b"\x30\0")),
    "unknown_command": raw_association.command_fragment(
        element(0x100, b"\xe2\x90") + element(0x800, b"\1\1")
    ),
    "two_commands_in_one": raw_association.command_fragment(
        element(0x100, b"\x30\0\x30\0") + element(0x800, b"\1\1")
    ),
    "odd_number": raw_association.command_fragment(
        element(0x100, b"\x30") + element(0x800, b"\1\1")
    ),
    "empty_data_value": raw_association.pdu(4, struct.pack(">LB", 1, 1)),
    "abort_from_nobody": _ABORT_FROM_NOBODY,
}


@pytest.mark.parametrize("crash", CRASHES)
def test_what_ended_a_thread_ends_the_association(crash: str, listener: Listener) -> None:
    threads = threading.active_count()
    with raw_association.connected(listener.port, timeout=5) as connection:
        connection.sendall(raw_association.association_request())
        assert raw_association.receive_pdu(connection)[0] == raw_association.A_ASSOCIATE_AC
        connection.sendall(CRASHES[crash])
        assert read_to_end(connection) == A_ABORT
    wait_for_threads(threads)
    assert raw_association.echo(listener.port) < 5


def bad_requests() -> dict[str, tuple[bytes, int]]:
    """Requests that pynetdicom takes for good, and what they are answered with."""
    request = raw_association.association_request()
    uid = raw_association.VERIFICATION.encode()
    item = struct.pack(">BxH", 0x30, len(uid)) + uid
    whole = struct.pack(">BxH", 0x20, len(item) + 25) + b"\1\0\0\0" + item
    assert whole in request
    without = struct.pack(">BxH", 0x20, 25) + b"\1\0\0\0"
    return {
        "no_abstract_syntax": (
            raw_association.pdu(1, request[6:].replace(whole, without)),
            A_ABORT,
        ),
        "other_version": (request[:6] + b"\0\2" + request[8:], A_ASSOCIATE_RJ),
    }


@pytest.mark.parametrize("bad", bad_requests())
def test_a_request_that_kept_a_place_is_parted_with_at_once(bad: str, listener: Listener) -> None:
    request, answer = bad_requests()[bad]
    threads = threading.active_count()
    with raw_association.connected(listener.port, timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == answer
    wait_for_threads(threads)
    assert raw_association.echo(listener.port) < 5


def read_to_end(connection: socket.socket) -> int:
    """Type of the last PDU before the connection was closed; after five seconds it raises."""
    last = 0
    while kind := raw_association.receive_pdu(connection)[0]:
        last = kind
    return last


def wait_for_threads(count: int) -> None:
    deadline = time.monotonic() + 5
    while threading.active_count() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= count
