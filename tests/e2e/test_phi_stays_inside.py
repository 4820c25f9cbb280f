"""No mark of a marked patient is in anything the system writes outside of database and spool."""

from __future__ import annotations

import base64
import binascii
import re
import threading
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pydicom
import pytest
import redis
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, _config
from support.marked_study import MARK, MARKS, write_marked_study
from support.small_ct import small_phantom
from support.stated import SMALL
from support.system import System, wait_until

from worker.db.engine import Database
from worker.db.tables import Screening, Study
from worker.lifecycle import ScreeningState, StudyState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.storescu import Storescu

_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{24,}")
_FORMATS = {"node": "json", "worker": "console"}


class _Verbose(System):
    """Node and worker that log all they can, one for machines and one for people."""

    def start(self, command: str) -> None:
        self.environment["LUNGWATCH_LOG_FORMAT"] = _FORMATS[command]
        temporary = self.settings.data_dir.with_name("tmp")
        temporary.mkdir(exist_ok=True)
        self.environment["TMPDIR"] = str(temporary)
        super().start(command)


class _Watch:
    """Everything that passed through the broker, and every command line that was seen."""

    def __init__(self, redis_url: str) -> None:
        self.seen: list[bytes] = []
        self._client = redis.Redis.from_url(redis_url, socket_timeout=None)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=target, daemon=True)
            for target in (self._watch_broker, self._watch_processes)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        yield
        self._stop.set()
        self._threads[1].join()

    def _watch_broker(self) -> None:
        # The shared Redis may end before this thread does.
        with suppress(redis.ConnectionError), self._client.monitor() as monitor:
            for line in monitor.listen():
                self.seen.append(str(line).encode())

    def _watch_processes(self) -> None:
        titles: set[bytes] = set()
        while not self._stop.wait(0.5):
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "comm"):
                    try:
                        titles.add((process / name).read_bytes())
                    except OSError:
                        continue
        self.seen += titles


@pytest.fixture
def send_files_as_they_are():
    """Let pynetdicom send the bytes of a file instead of decoding and encoding them."""
    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    yield
    _config.STORE_SEND_CHUNKED_DATASET = before


def _write_unreadable(folder: Path) -> list[Path]:
    """Marked data sets that end in mid-element, lack what a study needs, or hold no UID."""
    folder.mkdir()
    _, (whole, *_) = write_marked_study(folder / "whole")
    content = whole.read_bytes()
    (folder / "cut.dcm").write_bytes(content[: content.index(MARK.encode()) + 2])
    dataset = pydicom.dcmread(whole)
    dataset.StudyInstanceUID = f"1.2.{MARK}"
    dataset.save_as(folder / "no-uid.dcm")
    dataset = pydicom.dcmread(whole)
    dataset.Rows = None
    dataset.ImagePositionPatient = None
    dataset.save_as(folder / "no-rows.dcm")
    return sorted(folder.glob("*.dcm"))


def _write_refused(folder: Path, **words: str) -> str:
    """A marked study that its words make no chest CT; give its UID."""
    uid, paths = write_marked_study(folder)
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, text in words.items():
            setattr(dataset, keyword, text)
        dataset.save_as(path)
    return uid


def _send_raw(paths: list[Path], port: int) -> None:
    ae = AE("STORESCU")
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    for path in paths:
        association = ae.associate("127.0.0.1", port, ae_title="LUNGWATCH")
        assert association.is_established
        association.send_c_store(path)
        association.release()


def _states(system: System) -> dict[str, StudyState]:
    with (
        closing(Database(system.settings.resolved_database_url)) as database,
        database.reading() as session,
    ):
        return {study.study_instance_uid: study.state for study in session.query(Study)}


def _fail_once(system: System, storescu: Storescu, folder: Path) -> None:
    """Let a screening fail in the worker: a file stands where its results' folder belongs."""
    with closing(Database(system.settings.resolved_database_url)) as database:
        with database.reading() as session:
            last = max(session.query(Screening.id).all())[0]
        obstacle = system.settings.results_dir / str(last + 1)
        obstacle.write_text("")
        uid, _ = write_marked_study(folder, small_phantom()[0])
        storescu.send(folder, port=system.port, called="LUNGWATCH", options=("-xe",))

        def failed() -> bool:
            with database.reading() as session:
                found = session.query(Screening).filter(Screening.id == last + 1).one_or_none()
                again = found is not None and found.state is ScreeningState.QUEUED
                return again and found.attempts > 0

        wait_until("a screening that failed", failed)
        obstacle.unlink()
    assert system.wait_for_state(uid).state is StudyState.COMPLETED


def _outside(system: System, folder: Path, watch: _Watch) -> Iterator[tuple[str, bytes]]:
    """Yield everything the system wrote that is neither database nor spool nor results."""
    yield from (("the broker or a process title", seen) for seen in watch.seen)
    inside = (system.settings.spool_dir, system.settings.results_dir, folder / "orthanc")
    for path in folder.rglob("*"):
        if not path.is_relative_to(folder / "orthanc"):
            yield "a file name", str(path.relative_to(folder)).encode()
        if not path.is_file() or any(path.is_relative_to(each) for each in inside):
            continue
        if not path.name.startswith("lungwatch.db"):
            yield path.name, path.read_bytes()


def _marks(content: bytes) -> list[str]:
    plain = [content, *(_decoded(found) for found in _BASE64.findall(content))]
    return [m for part in plain for m in MARKS.findall(part.decode("utf-8", "replace"))]


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


@pytest.mark.usefixtures("send_files_as_they_are", "require_orthanc")
def test_no_mark_of_a_patient_leaves_database_and_spool(
    tmp_path: Path, redis_url: str, storescu: Storescu
) -> None:
    folder, sent = tmp_path / "system", tmp_path / "sent"
    folder.mkdir()
    settings = {"broker_url": redis_url, "log_level": "debug", **SMALL}
    watch = _Watch(redis_url)
    with watch.running(), _Verbose(folder, ("node", "worker"), **settings) as system:
        completed, files = write_marked_study(sent / "whole", small_phantom()[0])
        storescu.send(sent / "whole", port=system.port, called="LUNGWATCH", options=("-xe",))
        refused, few = write_marked_study(sent / "few")
        for path in few[4:]:
            path.unlink()
        storescu.send(sent / "few", port=system.port, called="LUNGWATCH", options=("-xe",))
        wrong = [
            _write_refused(sent / "abdomen", BodyPartExamined="", StudyDescription=f"ABD {MARK}"),
            _write_refused(sent / "part", BodyPartExamined=f"ARM_{MARK}", SeriesDescription=""),
            _write_refused(sent / "projection", SeriesDescription=f"Thorax MIP {MARK}"),
        ]
        for name in ("abdomen", "part", "projection"):
            storescu.send(sent / name, port=system.port, called="LUNGWATCH", options=("-xe",))
        _send_raw(_write_unreadable(sent / "unreadable"), system.port)
        storescu.send(files[0], port=system.port, called="WRONG", options=("-xe",), check=False)
        assert system.wait_for_state(completed).state is StudyState.COMPLETED
        for uid in (refused, *wrong):
            assert system.wait_for_state(uid).state is StudyState.REFUSED
        wait_until("quarantined instances", lambda: len(_states(system)) >= 7)
        _fail_once(system, storescu, sent / "failing")
        said = [
            ("lungwatch " + " ".join(command), done.stdout.encode() + done.stderr.encode())
            for command in (
                ("studies", "list"),
                ("studies", "show", completed),
                *(("studies", "show", uid, "--json") for uid in (refused, *wrong)),
                ("studies", "refusals"),
                ("studies", "requeue", refused),
                ("studies", "clean"),
                ("audit", "export"),
            )
            for done in [system.run(*command)]
        ]
        named = system.run("studies", "list", "--patient").stdout

    trail = dict(said)["lungwatch audit export"].decode()
    for event in ("110100", "110103", "110104", "110113", "110114"):
        assert f'"{event}"' in trail
    assert MARK in named
    logs = {name: (folder / f"{name}.log").read_text() for name in _FORMATS}
    assert "screening_interrupted" in logs["worker"]
    assert "instance_quarantined" in logs["node"]
    assert "study_moved" in logs["node"]
    database = b"".join(path.read_bytes() for path in (folder / "lungwatch").glob("lungwatch.db*"))
    assert MARK.encode() in database
    leaks = [
        (where, found)
        for where, content in [*said, *_outside(system, folder, watch)]
        if (found := _marks(content))
    ]
    assert leaks == []
    assert any("lungwatch.screen_series" in seen.decode("utf-8", "replace") for seen in watch.seen)
