"""A reply reaches whoever waits for it, also where pynetdicom's own thread is late."""

import threading
import time

import pytest
from pynetdicom import AE
from pynetdicom.presentation import build_context

from dicom_node.config import DimseDestination
from dicom_node.contexts import VERIFICATION
from dicom_node.peers.association import associate


class _LateThread(threading.Event):
    """Lets a thread go on a while after it may: as where others have the processor."""

    def wait(self, timeout: float | None = None) -> bool:
        woken = super().wait(timeout)
        time.sleep(0.1)
        return woken


@pytest.fixture
def pacs():
    """A PACS that answers C-ECHO at once."""
    ae = AE(ae_title="PACS")
    ae.add_supported_context(VERIFICATION)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    yield DimseDestination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=server.server_address[1],
        calling_ae_title="NODE",
        response_timeout=3,
    )
    server.shutdown()


def test_a_late_thread_takes_no_reply(pacs, monkeypatch):
    with associate(pacs, [build_context(VERIFICATION)]) as link:
        send = link.dimse.send_msg

        def send_and_be_late(*arguments) -> None:
            send(*arguments)
            time.sleep(0.3)

        late = _LateThread()
        late.set()
        monkeypatch.setattr(link, "_reactor_checkpoint", late)
        monkeypatch.setattr(link.dimse, "send_msg", send_and_be_late)
        time.sleep(0.2)
        assert [link.send_c_echo().get("Status") for _ in range(5)] == [0x0000] * 5
