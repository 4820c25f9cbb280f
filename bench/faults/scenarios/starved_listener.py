"""200 sockets that hold the listener while others ask it for a C-ECHO."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from support.certificates import Authority
from support.raw_association import echo
from support.services import require

from bench.faults.abuse import (
    Abuser,
    cost_at_rest,
    cost_of,
    partial_request,
    percentile_99,
    unfinished_data,
)
from bench.faults.listener import ListenerProcess
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.tls import client_context
from worker.embedded.orthanc import ThrowAwayOrthanc
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.tls import TlsFiles

_SOCKETS = 200
_ECHOES = 100
_LONGEST_SECONDS = 1.0
# The listener's own deadlines are 10 s and 30 s.
_REST_SECONDS = 45.0
# From another address an association is held, of which one address may have eight.
_ANOTHER = "127.0.0.2"

# What each of the sockets does: its name, what it sends at once, what it drips, from where.
KINDS = (
    ("idle", b"", b"", "127.0.0.1"),
    ("part of a request", partial_request(), b"", "127.0.0.1"),
    ("dripping request", b"", partial_request(), "127.0.0.1"),
    ("dripping data", unfinished_data(), bytes(100), _ANOTHER),
)
# To a listener with TLS the same is done after the handshake and instead of it.
TRANSPORTS = ("plain", "TLS", "TLS without a handshake")
# Four and three have no common factor: each kind meets each transport.
MIXES = [
    (KINDS[number % len(KINDS)], TRANSPORTS[number % len(TRANSPORTS)])
    for number in range(len(KINDS) * len(TRANSPORTS))
]


def run(trials: Trials, folder: Path) -> Outcome:
    """Hold, ask 100 times, let go, and see that nothing stays."""
    authority = Authority(folder / "authority")
    files = authority.issue("node", alternative="IP:127.0.0.1")
    slowest, answered = 0.0, 0
    problems = []
    recovery = 0.0
    for trial in trials.numbers:
        kind, transport = MIXES[trial % len(MIXES)]
        seconds, problem, rest = _hold(kind, transport, files, folder / f"trial-{trial}")
        answered += len(seconds)
        slowest = max(slowest, percentile_99(seconds))
        recovery = max(recovery, rest)
        problems += [f"{kind[0]}, {transport}: {problem}"] if problem else []
    notes = [f"C-ECHO p99 {slowest:.2f} s with {_SOCKETS} sockets held"]
    if trials.count >= len(MIXES):
        notes.append(_beside_others(folder))
    return Outcome(
        trials=trials.count,
        acknowledged=answered,
        lost=trials.count * _ECHOES - answered,
        duplicated=0,
        recovery_s=round(recovery, 2),
        passed=not problems and slowest <= _LONGEST_SECONDS,
        notes="; ".join(problems + notes),
    )


def _hold(
    kind: tuple[str, bytes, bytes, str], transport: str, files: TlsFiles, folder: Path
) -> tuple[list[float], str, float]:
    """Give the seconds of the echoes, what went wrong, and the seconds until all was as before."""
    _, opening, drip, source = kind
    folder.mkdir()
    tls = client_context(files) if transport != "plain" else None
    listener = ListenerProcess(folder, tls=files if tls else None)
    listener.start()
    try:
        echo(listener.port, tls=tls)
        base = cost_at_rest(listener.pid, cost_of(listener.pid), 1.0)
        seconds = []
        shakes = tls if transport == "TLS" else None
        with Abuser(listener.port, _SOCKETS, opening=opening, drip=drip, source=source, tls=shakes):
            for _ in range(_ECHOES):
                try:
                    seconds.append(echo(listener.port, tls=tls))
                except (AssertionError, OSError) as error:
                    return seconds, f"{type(error).__name__} {error}", 0.0
        freed = time.monotonic()
        rest = cost_at_rest(listener.pid, base, _REST_SECONDS)
        took = time.monotonic() - freed
        if (rest.threads, rest.files) > (base.threads, base.files):
            return seconds, f"{rest} is left of {base}", took
        return seconds, "", took
    finally:
        listener.stop()


def _beside_others(folder: Path) -> str:
    """Hold Orthanc and storescp with one idle socket each, and ask once."""
    (port,) = free_ports(1)
    (folder / "storescp").mkdir()
    storescp = [require("storescp", "dcmtk"), "-od", folder / "storescp", str(port)]
    with ExitStack() as stack:
        orthanc = stack.enter_context(ThrowAwayOrthanc(folder / "orthanc"))
        service = stack.enter_context(ServiceProcess("storescp", folder / "storescp.log"))
        service.start(storescp, lambda: _dcmtk_echo(port) is not None)
        pool = stack.enter_context(ThreadPoolExecutor(2))
        ports = (orthanc.dicom_port, port)
        held = pool.map(_echo_beside_one, ports)
        return "with one idle socket held: " + ", ".join(
            f"{name} {seconds:.0f} s"
            for name, seconds in zip(("Orthanc", "storescp"), held, strict=True)
        )


def _echo_beside_one(port: int) -> float:
    with Abuser(port, 1):
        started = time.monotonic()
        while _dcmtk_echo(port) is None and time.monotonic() - started < 120:
            time.sleep(0.1)
        return time.monotonic() - started


def _dcmtk_echo(port: int) -> float | None:
    started = time.monotonic()
    command = [require("echoscu", "dcmtk"), "-aec", "ANY", "127.0.0.1", str(port)]
    done = subprocess.run(command, capture_output=True, check=False)
    return time.monotonic() - started if done.returncode == 0 else None


SCENARIO = Scenario(
    name="starved_listener",
    title="200 idle, partial and dripping sockets, plain and TLS",
    passes_if="C-ECHO p99 at most 1 s meanwhile; threads and descriptors are given back",
    trials=len(MIXES),
    # Each kind and each transport; the comparison with others takes as long as all these.
    short_trials=len(KINDS),
    batch=len(MIXES),
    run=run,
)
