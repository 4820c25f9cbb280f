"""Nobody comes in under another's name: every mix of certificate, AE title, address, transport."""

from __future__ import annotations

import itertools
import ssl
from typing import TYPE_CHECKING

import pytest
from support.certificates import Authority
from support.raw_association import (
    A_ASSOCIATE_AC,
    A_ASSOCIATE_RJ,
    association_request,
    connected,
    echo,
    receive_pdu,
)
from support.system import wait_until

from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from dicom_node.tls import client_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.tls import TlsFiles

RIGHT_ADDRESS, WRONG_ADDRESS = "127.0.0.1", "127.0.0.2"
# CT2 may send too, from another address and with another certificate: it is no stranger.
AE_TITLES = {"right": "CT1", "another sender's": "CT2", "unknown": "CT9"}
ADDRESSES = {"right": RIGHT_ADDRESS, "wrong": WRONG_ADDRESS}
# Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21), behind a reserved byte.
CALLING_AE_TITLE_NOT_RECOGNIZED = bytes([0, 1, 1, 3])
CERTIFICATES = ("right", "another sender's", "of another authority", "expired", "none")


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TlsFiles | None]:
    """What a caller may show, by its name in `CERTIFICATES`, and the listener's own."""
    ours = Authority(tmp_path_factory.mktemp("authority"))
    other = Authority(tmp_path_factory.mktemp("another"))
    return {
        "listener": ours.issue("node", alternative="IP:127.0.0.1"),
        "right": ours.issue("ct1"),
        "another sender's": ours.issue("ct2"),
        "of another authority": other.issue("ct1"),
        "expired": ours.issue("ct1-of-old", days=-1),
        "none": None,
    }


@pytest.fixture(scope="module")
def listeners(
    tmp_path_factory: pytest.TempPathFactory, identities: dict[str, TlsFiles | None]
) -> Iterator[dict[str, Listener]]:
    """Two listeners that differ in TLS; both bind CT1 to its address, one to its certificate."""
    started = {}
    for name, bound, tls in (
        ("TLS", ("#ct1", "#ct2"), identities["listener"]),
        ("plain", ("", ""), None),
    ):
        spool = Spool(tmp_path_factory.mktemp(name) / "spool")
        senders = {f"CT1@{RIGHT_ADDRESS}/32{bound[0]}", f"CT2@192.0.2.0/24{bound[1]}"}
        config = ListenerConfig(
            ae_title="LUNGWATCH",
            host="127.0.0.1",
            port=0,
            spool_dir=spool.root,
            allowed_calling_ae_titles=frozenset(senders),
            tls=tls,
            minimum_free_bytes=0,
        )
        started[name] = Listener(config, spool)
        started[name].start()
        # Each cell is to be noted, however many have been.
        started[name]._gate._spool._notes._may_note = lambda _note: True
    yield started
    for listener in started.values():
        listener.stop(timeout=2)


def expected(listens: str, calls: str, certificate: str, ae_title: str, address: str) -> str:
    """State each cell: echo for the one that may come in, else the coded reason of the refusal."""
    if listens == "plain" and calls == "TLS":
        return "no_association_request"
    unproven = calls == "plain" or certificate in {"of another authority", "expired", "none"}
    if listens == "TLS" and unproven:
        return "tls_handshake_failed"
    if ae_title == "unknown":
        return "calling_ae_not_allowed"
    # CT2 is bound to an address that is neither of the two.
    if address == "wrong" or ae_title == "another sender's":
        return "address_not_allowed"
    if listens == "TLS" and certificate != "right":
        return "certificate_not_allowed"
    return "echo"


CELLS = [
    (listens, calls, certificate, ae_title, address)
    for listens, calls, certificate, ae_title, address in itertools.product(
        ("TLS", "plain"), ("TLS", "plain"), CERTIFICATES, AE_TITLES, ADDRESSES
    )
    # Without TLS there is no certificate to show; a plain listener asks for none.
    if certificate == "none" or (calls == "TLS" and (listens == "TLS" or certificate == "right"))
]


def test_one_cell_alone_of_each_listener_may_come_in() -> None:
    assert len(CELLS) == 54
    admitted = [cell for cell in CELLS if expected(*cell) == "echo"]
    assert admitted == [
        ("TLS", "TLS", "right", "right", "right"),
        ("plain", "plain", "none", "right", "right"),
    ]


@pytest.mark.parametrize(("listens", "calls", "certificate", "ae_title", "address"), CELLS)
def test_impostors(
    listens: str,
    calls: str,
    certificate: str,
    ae_title: str,
    address: str,
    listeners: dict[str, Listener],
    identities: dict[str, TlsFiles | None],
) -> None:
    listener = listeners[listens]
    spool = listener._spool
    for path, _ in spool.refusals():
        spool.drop_refusal(path)

    tls = tls_of(identities[certificate], identities["listener"]) if calls == "TLS" else None
    caller = {"source": ADDRESSES[address], "calling": AE_TITLES[ae_title], "tls": tls}
    outcome = expected(listens, calls, certificate, ae_title, address)
    if outcome == "echo":
        assert echo(listener.port, **caller) > 0
        assert list(spool.refusals()) == []
        return
    kind, answer = ask_for_an_association(listener.port, **caller)
    assert kind != A_ASSOCIATE_AC
    # The alert of TLS goes out before the note is written.
    ((_, note),) = wait_until("it is noted", lambda: list(spool.refusals()), 60)
    assert note.reason == outcome
    assert note.peer_address == ADDRESSES[address]
    if "not_allowed" in outcome:
        # Told one thing, whatever it was; the note says which.
        assert (kind, answer) == (A_ASSOCIATE_RJ, CALLING_AE_TITLE_NOT_RECOGNIZED)
        assert note.calling_ae_title == AE_TITLES[ae_title]


def ask_for_an_association(
    port: int, *, source: str, calling: str, tls: ssl.SSLContext | None
) -> tuple[int, bytes]:
    """The first PDU that comes back; type 0 where none does."""
    try:
        with connected(port, source=source, tls=tls, timeout=60) as connection:
            connection.sendall(association_request(calling))
            return receive_pdu(connection)
    except (ssl.SSLError, ConnectionError):
        return 0, b""


def tls_of(shown: TlsFiles | None, listener: TlsFiles | None) -> ssl.SSLContext:
    """As a caller that believes the listener and shows what it has."""
    assert listener is not None
    if shown is not None:
        context = client_context(shown)
        context.load_verify_locations(listener.authorities)
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(listener.authorities)
    return context
