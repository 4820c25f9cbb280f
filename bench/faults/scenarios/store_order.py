"""The order of calls in a store: file, name and folder are durable, then success is answered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bench.faults.listener import ListenerProcess, traced
from bench.faults.load import SENDERS, acknowledged, write_instances
from bench.faults.scenario import Outcome, Scenario, Trials

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_CALLS = "trace=fsync,fdatasync,rename,renameat,renameat2,sendto"
_CALL = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<arguments>.*)$")
_RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>(?P<result>.*)$")
_DONE = re.compile(r"= 0$")
# The first byte of a P-DATA-TF PDU (PS3.8 section 9.3.5): of an answer, not of an association.
_P_DATA = re.compile(r'^\d+<[^>]*>, "\\4"')
# Path of a file's descriptor, and the old name of a rename.
_FILE = re.compile(r"^\d+<(?P<path>[^>]*)>")
_OLD_NAME = re.compile(r'"(?P<path>[^"]*)", (?:\S+, )?"')

_STORE = ("file", "rename", "folder", "answer")


def run(trials: Trials, folder: Path) -> Outcome:
    """Trace a listener while DCMTK and pynetdicom send."""
    listener = ListenerProcess(folder)
    listener.start()
    files = write_instances(folder / "sent", trials.count, 20_000)
    trace = folder / "trace"
    answers: dict[Path, int] = {}
    with traced(listener.pid, "-y", "-s", "1", "-e", _CALLS, "-o", trace):
        for number, sender in enumerate(SENDERS):
            answers |= sender(files[number :: len(SENDERS)], listener.port)
        listener.stop()
    acked = len(acknowledged(answers))
    found = list(events(trace.read_text(), listener.spool))
    stores = [tuple(found[k : k + len(_STORE)]) for k in range(0, len(found), len(_STORE))]
    wrong = sum(not is_ordered(store) for store in stores) + abs(len(stores) - acked)
    return Outcome(
        trials=trials.count,
        acknowledged=acked,
        lost=wrong,
        duplicated=0,
        recovery_s=None,
        passed=wrong == 0 and acked == trials.count,
        notes=f"{wrong} stores in another order, see {trace}" if wrong else "",
    )


def is_ordered(store: Sequence[tuple[str, str]]) -> bool:
    """Tell whether the events are those of one store, and its renamed file is the durable one."""
    if tuple(kind for kind, _ in store) != _STORE:
        return False
    (_, durable), (_, renamed), *_ = store
    return durable == renamed


def events(trace: str, spool: Path) -> Iterator[tuple[str, str]]:
    """Read what matters out of a trace: file, rename and folder when they are done, and answers.

    Each comes with the temporary name that its file has or had. An answer counts from its first
    byte, the others from their return.
    """
    unfinished: dict[str, tuple[str, str]] = {}
    for line in trace.splitlines():
        if (resumed := _RESUMED.match(line)) is not None:
            begun = unfinished.pop(resumed["thread"], None)
            if begun and _DONE.search(resumed["result"]):
                yield begun
        elif (call := _CALL.match(line)) is not None:
            event = _event(call["call"], call["arguments"], spool)
            if event == ("answer", "") or (event and _DONE.search(line)):
                yield event
            elif event and line.endswith("<unfinished ...>"):
                unfinished[call["thread"]] = event


def _event(call: str, arguments: str, spool: Path) -> tuple[str, str] | None:
    if call == "sendto":
        return ("answer", "") if _P_DATA.match(arguments) else None
    if call.startswith("rename"):
        old = _OLD_NAME.search(arguments)
        return ("rename", old["path"]) if old and f'"{spool / "inbox"}/' in arguments else None
    file = _FILE.match(arguments)
    if file is None:
        return None
    if file["path"].startswith(f"{spool / 'incoming'}/"):
        return "file", file["path"]
    return ("folder", "") if file["path"] == str(spool / "inbox") else None


SCENARIO = Scenario(
    name="store_order",
    title="strace over every store",
    passes_if=(
        "fsync of the file, rename of the same, fsync of the folder, and only then success, in "
        "every store"
    ),
    trials=1000,
    short_trials=250,
    batch=250,
    run=run,
)
