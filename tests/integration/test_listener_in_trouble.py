"""The listener in trouble: limits, full disks, aborts, idle connections, and stopping."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.sop_class import Verification
from support.listening import AE_TITLE, association, dataset_part, orphans, reasons
from support.raw_association import (
    A_ASSOCIATE_RJ,
    association_request,
    connected,
    data_fragment,
    receive_pdu,
    store_request,
)
from support.system import wait_until

from dicom_node.config import ListenerConfig
from dicom_node.errors import ConfigurationError
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool, content_digest, uid_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pynetdicom.association import Association


def echo(port: int) -> float:
    """Seconds an association with one C-ECHO takes."""
    started = time.monotonic()
    with association(port, Verification) as link:
        assert link.send_c_echo().Status == 0
    return time.monotonic() - started


def test_an_instance_over_the_limit_is_refused_and_the_next_is_not(
    start_listener: Callable[..., Listener], raw_file: Callable[..., Path], spool: Spool
) -> None:
    listener = start_listener(maximum_instance_bytes=100_000)
    sizes = {"1.2.1": 100_001, "1.2.2": 5_000_000, "1.2.3": 100_000}
    paths = [raw_file(bytes(size), uid) for uid, size in sizes.items()]
    with association(listener.port) as link:
        statuses = [link.send_c_store(path).Status for path in paths]
    assert statuses == [0xC000, 0xC000, 0x0000]
    assert reasons(spool) == {"too_large"}
    assert len(list(spool.inbox())) == 1


def test_a_long_instance_is_stored_to_the_byte(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    sent = raw_file(os.urandom(9_000_001))
    with association(listener.port) as link:
        assert link.send_c_store(sent).Status == 0
    (stored,) = spool.inbox()
    assert dataset_part(stored) == dataset_part(sent)
    digest = content_digest(dataset_part(sent), ExplicitVRLittleEndian)
    assert stored.name == f"{uid_hash('1.2.3.4')}-{digest}.dcm"
    assert orphans(spool) == []


def test_a_long_data_set_that_never_ends_is_held_in_no_memory_and_leaves_no_file(
    listener: Listener, spool: Spool
) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(4):
            connection = stack.enter_context(connected(listener.port))
            connection.sendall(association_request(sop_class=CTImageStorage))
            receive_pdu(connection)
            connection.sendall(store_request(CTImageStorage, f"1.2.{number}"))
            for _ in range(100):
                connection.sendall(data_fragment(bytes(100_000), last=False))
        wait_until("they are in files", lambda: sum(sizes(spool)) > 4 * 9_500_000)
        held = [association.dimse.message.data_set for association in associations(listener)]
        assert len(held) == 4
        # What a BytesIO holds itself.
        assert max(data_set.getbuffer().nbytes for data_set in held) == 0
        assert orphans(spool) == []
    del held
    wait_until("their files are gone", lambda: not sizes(spool))
    assert list(spool.inbox()) == []


def test_an_instance_over_the_limit_sent_ahead_of_an_answer_is_the_one_that_is_refused(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_instance_bytes=5_000_000)
    pieces = [data_fragment(bytes(100_000), last=False)] * 60 + [data_fragment(b"the end")]
    with connected(listener.port) as connection:
        connection.sendall(association_request(sop_class=CTImageStorage))
        receive_pdu(connection)
        first = store_request(CTImageStorage, "1.2.1", 1) + data_fragment(bytes(100))
        second = store_request(CTImageStorage, "1.2.2", 2) + b"".join(pieces)
        connection.sendall(first + second)
        answers = [receive_pdu(connection)[1] for _ in range(2)]
    # (0000,0900) Status.
    statuses = [answer.partition(b"\0\0\0\x09\x02\0\0\0")[2][:2] for answer in answers]
    assert statuses == [b"\0\0", b"\0\xc0"]
    assert len(list(spool.inbox())) == 1


def sizes(spool: Spool) -> list[int]:
    """Of the files this process holds open in the spool's folder that have no name there."""
    incoming = str(spool.root / "incoming")
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            if target.startswith(incoming) and target.endswith("(deleted)"):
                found.append(descriptor.stat().st_size)
    return found


def associations(listener: Listener) -> list[Association]:
    return listener._server._places.associations()


def test_the_watermark_refuses_and_recovers(
    start_listener: Callable[..., Listener],
    raw_file: Callable[..., Path],
    spool: Spool,
    tmp_path: Path,
) -> None:
    spool.prepare()
    ballast_bytes = 512 << 20
    watermark = spool.free_bytes() - ballast_bytes // 2
    listener = start_listener(minimum_free_bytes=watermark)
    image = raw_file(b"pixels")
    with association(listener.port) as link, (tmp_path / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, ballast_bytes)
        assert link.send_c_store(image).Status == 0xA700
        assert list(spool.inbox()) == []
        assert reasons(spool) == {"out_of_resources"}
        ballast.truncate(0)
        os.fsync(ballast.fileno())
        assert link.send_c_store(image).Status == 0x0000
    assert len(list(spool.inbox())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, check=False).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: it takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_that_is_really_full_is_never_a_success(
    small_disk: Path, raw_file: Callable[..., Path]
) -> None:
    spool = Spool(small_disk / "spool")
    config = ListenerConfig(
        ae_title=AE_TITLE,
        host="127.0.0.1",
        port=0,
        spool_dir=spool.root,
        allowed_calling_ae_titles=frozenset({"STORESCU"}),
        minimum_free_bytes=0,
    )
    listener = Listener(config, spool)
    listener.start()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((8 << 20) - (1 << 20)))
    try:
        with association(listener.port) as link:
            statuses = [
                link.send_c_store(raw_file(os.urandom(400_000), f"1.2.{number}")).Status
                for number in range(6)
            ]
            stored = statuses.count(0)
            assert 0 < stored < 6
            assert set(statuses) == {0x0000, 0xA700}
            assert len(list(spool.inbox())) == stored
            assert orphans(spool) == []
            ballast.unlink()
            assert link.send_c_store(raw_file(os.urandom(400_000), "1.3")).Status == 0
    finally:
        listener.stop(timeout=2)


def test_half_sent_data_and_aborts_leave_nothing_and_stop_nobody(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    with association(listener.port) as bystander:
        for cut in ("close", "abort", "reset"):
            with association(listener.port) as link:
                raw = link.dul.socket.socket
                # A P-DATA-TF PDU that promises 60,000 bytes and holds 6,000.
                raw.sendall(struct.pack(">BBL", 4, 0, 60_000) + bytes(6_000))
                if cut == "abort":
                    link.abort()
                elif cut == "reset":
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    raw.close()
                else:
                    raw.shutdown(socket.SHUT_RDWR)
        assert bystander.send_c_store(raw_file(b"pixels")).Status == 0
    assert echo(listener.port) < 2
    assert len(list(spool.inbox())) == 1
    assert orphans(spool) == []


def test_a_pdu_that_declares_four_gigabytes_is_cut_off(listener: Listener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFFF) + bytes(1000))
        connection.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(4096):
                pass
    assert echo(listener.port) < 2


def test_idle_connections_do_not_keep_others_waiting(listener: Listener) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port)))
        assert echo(listener.port) < 2


def test_one_association_too_many_is_told_to_come_back(
    start_listener: Callable[..., Listener], spool: Spool
) -> None:
    listener = start_listener(maximum_associations=1)
    with association(listener.port), connected(listener.port) as second:
        second.sendall(association_request())
        # Rejected, transient; local limit exceeded (PS3.8 table 9-21).
        assert receive_pdu(second) == (A_ASSOCIATE_RJ, bytes([0, 2, 3, 2]))
    assert reasons(spool) == {"too_many_associations"}


def test_the_intake_is_woken_and_its_trouble_is_not_the_senders(
    start_listener: Callable[..., Listener], raw_file: Callable[..., Path], spool: Spool
) -> None:
    found: list[int] = []

    def wake() -> None:
        found.append(len(list(spool.inbox())))
        msg = "the intake is down"
        raise RuntimeError(msg)

    listener = start_listener(on_received=wake)
    with association(listener.port) as link:
        assert link.send_c_store(raw_file(b"one", "1.2.1")).Status == 0
        assert link.send_c_store(raw_file(b"two", "1.2.2")).Status == 0
    assert found == [1, 2]


def test_stop_lets_a_running_association_finish(
    listener: Listener, raw_file: Callable[..., Path], spool: Spool
) -> None:
    with association(listener.port) as link:
        stopping = threading.Thread(target=listener.stop, args=(10,))
        stopping.start()
        time.sleep(0.7)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", link.acceptor.port), timeout=1)
        assert link.send_c_store(raw_file(b"pixels")).Status == 0
    stopping.join(timeout=5)
    assert not stopping.is_alive()
    assert len(list(spool.inbox())) == 1


def test_stop_does_not_wait_for_ever(listener: Listener) -> None:
    with association(listener.port) as link:
        started = time.monotonic()
        listener.stop(timeout=0.5)
        assert time.monotonic() - started < 5
        for _ in range(100):
            if link.is_aborted:
                break
            time.sleep(0.05)
        assert link.is_aborted


def test_a_port_that_is_taken(start_listener: Callable[..., Listener], listener: Listener) -> None:
    with pytest.raises(ConfigurationError, match=f"port {listener.port} cannot be bound"):
        start_listener(port=listener.port)
