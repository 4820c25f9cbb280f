"""Mutated PDUs from several peers at once, and what the listener's process is like afterwards."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from support.pdu_corpus import is_whole, read_corpus
from support.pdu_mutators import conversations
from support.raw_association import A_ASSOCIATE_AC, echo, receive_pdu

from bench.faults.abuse import cost_at_rest, cost_of, peak_rss_kib
from bench.faults.listener import ListenerProcess
from bench.faults.results import REPOSITORY
from bench.faults.scenario import Outcome, Scenario, Trials, tell

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.faults.abuse import Cost

_CORPUS = "tests/fuzz/corpus"

# As many as one address may have associations.
_PEERS = 8
_MOST_GROWTH_MIB = 50.0
# Twice what the listener gives a peer that is silent: about one conversation in 25,000 makes it
# wait that long.
_HELD_SECONDS = 60.0
_REST_SECONDS = 45.0
_TOLD_AFTER = 10_000
# What Python prints where an exception ends a thread.
_UNHANDLED = b"Exception in thread"


def run(trials: Trials, folder: Path) -> Outcome:
    """Send as many mutated PDUs as there are trials to one listener, and look at its process."""
    listener = ListenerProcess(folder)
    listener.start()
    corpus = read_corpus(REPOSITORY / _CORPUS)
    with ThreadPoolExecutor(_PEERS) as pool:
        # Threads, tables and buffers that come with the first associations are no growth.
        list(pool.map(partial(talk, listener.port), list(corpus.values()) * 20))
        base = cost_at_rest(listener.pid, cost_of(listener.pid), seconds=1)
        held = 0
        # The pool would take all of them into memory at once.
        mutated = conversations(corpus, str(trials.first), trials.count)
        while some := list(islice(mutated, _TOLD_AFTER)):
            held += sum(not closed for closed in pool.map(partial(talk, listener.port), some))
            _tell_growth(listener, base)
    problems = [f"{held} connections were held open"] if held else []
    if not listener.running:
        notes = "the listener's process ended"
        return Outcome(trials.count, 0, 0, 0, None, passed=False, notes=notes)
    after = cost_at_rest(listener.pid, base, _REST_SECONDS)
    growth = (peak_rss_kib(listener.pid) - base.rss_kib) / 1024
    if growth > _MOST_GROWTH_MIB:
        problems.append(f"it grew by {growth:.0f} MiB")
    if after.threads > base.threads or after.files > base.files:
        problems.append(f"threads {base.threads} to {after.threads}, files {base.files} to ")
        problems[-1] += str(after.files)
    try:
        echo(listener.port)
    except (AssertionError, OSError) as error:
        problems.append(f"no C-ECHO afterwards ({type(error).__name__})")
    listener.stop()
    if _UNHANDLED in (folder / "listener.log").read_bytes():
        problems.append("an exception ended a thread: see listener.log")
    return Outcome(
        trials=trials.count,
        acknowledged=0,
        lost=0,
        duplicated=0,
        recovery_s=None,
        passed=not problems,
        notes="; ".join(problems) or f"it grew by {growth:.0f} MiB at most",
    )


def _tell_growth(listener: ListenerProcess, base: Cost) -> None:
    if listener.running:
        grown = (cost_of(listener.pid).rss_kib - base.rss_kib) / 1024
        tell(f"mutated_pdus: the listener has grown by {grown:.0f} MiB so far")


def talk(port: int, pdus: Sequence[bytes]) -> bool:
    """Have a conversation, and tell whether the listener closed the connection in the end."""
    with socket.create_connection(("127.0.0.1", port), _HELD_SECONDS) as connection:
        try:
            connection.sendall(pdus[0])
            # Whoever sends on before the association is there is cut off.
            if is_whole(pdus[0]) and receive_pdu(connection)[0] == A_ASSOCIATE_AC:
                connection.sendall(b"".join(pdus[1:]))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
    return True


SCENARIO = Scenario(
    name="mutated_pdus",
    title="1,000,000 mutated PDUs from eight peers at once",
    passes_if=(
        f"no crash, no exception ends a thread, threads and files back to base, memory grows by at "
        f"most {_MOST_GROWTH_MIB:.0f} MiB, C-ECHO afterwards"
    ),
    trials=1_000_000,
    short_trials=5_000,
    # One listener takes all of them: growth would not show in many small batches.
    batch=1_000_000,
    run=run,
    rests_on=(_CORPUS,),
)
