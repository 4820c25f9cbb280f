"""20,000 associations with two listeners, of which one speaks TLS, and stores among them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from support.certificates import Authority
from support.raw_association import VERIFICATION, echo

from bench.faults.abuse import Cost, cost_at_rest, cost_of
from bench.faults.listener import AE_TITLE, ListenerProcess
from bench.faults.load import SUCCESS, write_instances
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.peers.replies import keep_replies
from dicom_node.tls import client_context

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from dicom_node.tls import TlsFiles

_WARM_UP = 500
_AT_ONCE = 4
_MOST_GROWTH = 1.05
_REST_SECONDS = 30.0
# One association of so many stores as well, and one is with the listener that speaks TLS; the two
# have no common factor, so that some are both.
_STORE_EVERY, _TLS_EVERY = 10, 3


def run(trials: Trials, folder: Path) -> Outcome:
    """Open, C-ECHO, often C-STORE, release; then compare what the processes take with before."""
    (instance,) = write_instances(folder / "sent", 1, 20_000)
    files = Authority(folder / "authority").issue("node", alternative="IP:127.0.0.1")
    plain = _Partner(folder / "plain", instance, None)
    encrypted = _Partner(folder / "tls", instance, files)

    def visit(number: int) -> bool:
        partner = plain if number % _TLS_EVERY else encrypted
        return partner.echo() if number % _STORE_EVERY else partner.echo_and_store()

    try:
        for partner in (plain, encrypted):
            partner.listener.start()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answered = sum(pool.map(visit, range(min(_WARM_UP, trials.count))))
            for partner in (plain, encrypted):
                partner.note_base()
            answered += sum(pool.map(visit, trials.numbers))
        ended = time.monotonic()
        growths = [partner.growth() for partner in (plain, encrypted)]
        recovery = time.monotonic() - ended
    finally:
        for partner in (plain, encrypted):
            partner.listener.stop()
    missing = sum(partner.missing() for partner in (plain, encrypted))
    visits = trials.count + min(_WARM_UP, trials.count)
    return Outcome(
        trials=trials.count,
        acknowledged=answered,
        lost=missing,
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=all(each.passed for each in growths) and answered == visits and not missing,
        notes=f"plain: {growths[0]}; TLS: {growths[1]}",
    )


@dataclass(frozen=True)
class _Growth:
    """What a listener takes in the end, beside what it took."""

    base: Cost
    rest: Cost

    @property
    def passed(self) -> bool:
        back = self.rest.threads <= self.base.threads and self.rest.files <= self.base.files
        return back and self.rest.rss_kib <= _MOST_GROWTH * self.base.rss_kib

    def __str__(self) -> str:
        percent = 100 * (self.rest.rss_kib / self.base.rss_kib - 1)
        return f"memory {percent:+.1f} %, threads {self.rest.threads}, files {self.rest.files}"


class _Partner:
    """A listener, and what is done with it on an association of its own each time."""

    def __init__(self, folder: Path, instance: Path, files: TlsFiles | None) -> None:
        folder.mkdir()
        self.listener = ListenerProcess(folder, tls=files)
        self._tls: ssl.SSLContext | None = client_context(files) if files else None
        self._instance = instance
        self._stored: list[str] = []
        self._base: Cost | None = None

    def echo(self) -> bool:
        echo(self.listener.port, tls=self._tls)
        return True

    def echo_and_store(self) -> bool:
        """C-ECHO and C-STORE; tell whether both were answered with success."""
        dataset = dcmread(self._instance)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ae = AE("STORESCU")
        ae.add_requested_context(VERIFICATION)
        ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
        tls = (self._tls, "127.0.0.1") if self._tls else None
        association = ae.associate("127.0.0.1", self.listener.port, ae_title=AE_TITLE, tls_args=tls)
        if not association.is_established:
            return False
        keep_replies(association)
        answers = [association.send_c_echo(), association.send_c_store(dataset)]
        association.release()
        if [answer.get("Status") for answer in answers] != [SUCCESS, SUCCESS]:
            return False
        self._stored.append(str(dataset.SOPInstanceUID))
        return True

    def note_base(self) -> None:
        """Note what the listener takes now, with which it is compared."""
        self._base = cost_at_rest(self.listener.pid, cost_of(self.listener.pid), 1.0)

    def growth(self) -> _Growth:
        """Wait until threads and files are given back, and tell what is not."""
        assert self._base is not None
        return _Growth(self._base, cost_at_rest(self.listener.pid, self._base, _REST_SECONDS))

    def missing(self) -> int:
        """Count the acknowledged instances that are not on disk."""
        return len(self._stored) - sum(1 for _ in self.listener.spool.rglob("*.dcm"))


SCENARIO = Scenario(
    name="soak",
    title=(
        f"20,000 associations with two listeners, one in {_TLS_EVERY} with the one that speaks "
        f"TLS; a C-ECHO on each, and on one in {_STORE_EVERY} a C-STORE as well"
    ),
    passes_if=(
        "all answered, every acknowledged instance on disk; memory grows by 5 % at most; threads "
        "and descriptors are given back"
    ),
    trials=20_000,
    short_trials=500,
    # One pair of listeners lives through all of them.
    batch=20_000,
    run=run,
)
