"""Everything else that comes from outside: settings, reports, notes, tables, files moved by hand.

What is wrong with it comes out as one of our own errors, and holds up nothing.
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from support.small_ct import write_small_ct
from support.synthetic_result import TINY_LESIONS, context_of, predict

from dicom_node.commitment import STORAGE_COMMITMENT
from dicom_node.errors import ConfigurationError, SegmentationError
from dicom_node.objects.common_attributes import encode_file
from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.objects.segmentation import encode_segmentation
from dicom_node.reading.reader import read_ct_series
from dicom_node.receiving.commitment_reports import FOLDER, CommitmentReports, report_handler
from dicom_node.receiving.refusals import RefusalNotes
from dicom_node.receiving.spool import Spool
from dicom_node.senders import Sender
from model.data.manifest import COLUMNS, read_manifest
from model.errors import DatasetError
from worker.db import schema
from worker.db.engine import Database
from worker.db.tables import Event, Instance
from worker.delivery.destinations import parse_destinations
from worker.errors import SettingsError
from worker.intake.intake import Intake
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_EXAMPLES = int(os.environ.get("LUNGWATCH_FUZZ_EXAMPLES", "0"))
fuzzed = settings(
    max_examples=_EXAMPLES or 60,
    derandomize=not _EXAMPLES,
    database=None,
    deadline=None,
    # Shrinking takes minutes, and what is found here is small.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
rarely = settings(fuzzed, max_examples=_EXAMPLES or 15)
seeds = st.integers(0, 2**32).map(Random)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


def spoilt(random: Random, content: bytes) -> bytes:
    """Change some bytes, and now and then the length, of something that was whole."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 2, 8, 30))):
        at = random.randrange(len(changed))
        match random.randrange(4):
            case 0:
                changed[at] = random.randrange(256)
            case 1:
                del changed[at : at + random.choice((1, 4, 100))]
            case 2:
                changed[at:at] = random.randbytes(random.choice((1, 4, 100)))
            case 3:
                changed[at : at + 4] = random.choice(
                    (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\x80")
                )
    return bytes(changed) or b"\0"


def complaint(
    expected: type[Exception], read: Callable[..., object], *arguments: object
) -> str | None:
    """What our own error says, None where there was none; any other one comes through."""
    try:
        read(*arguments)
    except expected as error:
        return str(error)
    return None


@fuzzed
@given(st.text() | st.from_regex(r"[A-Z*]{1,17}(@[0-9a-f.:/]{0,20})?(#[a-z0-9:.]{0,70})?"))
def test_senders(entry: str) -> None:
    assert complaint(ConfigurationError, Sender.parse, entry) != ""


@fuzzed
@given(
    st.sampled_from(["dimse", "dimse+tls", "stow+http", "stow+https", "ftp"]),
    st.text(max_size=30),
    st.text(max_size=30)
    | st.sampled_from(["?commitment=query", "?token=a", "#b", ":99999", "[::1"]),
)
@example("stow+https", "[", "")
@example("dimse", "PACS", "@host:port")
def test_destinations(scheme: str, before: str, after: str) -> None:
    entry = f"{scheme}://{before}:sesame-ope%6e@{after}"
    found = load_settings(destinations=(entry,))
    assert "sesame" not in (complaint(SettingsError, parse_destinations, found) or "")


def report_bytes(**changes: object) -> bytes:
    report, item, failed = Dataset(), Dataset(), Dataset()
    item.ReferencedSOPInstanceUID = failed.ReferencedSOPInstanceUID = "1.2.3"
    failed.FailureReason = 0x0112
    report.TransactionUID = "1.2.3.4"
    report.ReferencedSOPSequence, report.FailedSOPSequence = [item], [failed]
    for name, value in changes.items():
        setattr(report, name, value)
    buffer = BytesIO()
    report.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


@fuzzed
@given(seeds)
def test_commitment_reports_from_the_network(random: Random) -> None:
    kept: list[object] = []
    content = spoilt(random, report_bytes())

    class Received:
        request = SimpleNamespace(
            AffectedSOPClassUID=STORAGE_COMMITMENT, EventInformation=BytesIO(content)
        )

        @property
        def event_information(self) -> Dataset:
            # As pynetdicom decodes it, when it is asked to.
            from pynetdicom.dsutils import decode

            return decode(BytesIO(content), is_implicit_vr=True, is_little_endian=True)

    status, reply = report_handler(kept.append)(Received())
    assert (status == 0) == bool(kept)
    assert status in (0x0000, 0x0110, 0x0115)
    assert reply is None


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return read_ct_series(write_small_ct(tmp_path_factory.mktemp("ct")))


@pytest.fixture(scope="module")
def segmentation(series: Any) -> bytes:
    drawn = encode_segmentation(series, predict(series, TINY_LESIONS), context_of(series))
    return encode_file(drawn)


@fuzzed
@given(random=seeds)
def test_corrected_segmentations(
    random: Random, segmentation: bytes, series: Any, tmp_path: Path
) -> None:
    path = tmp_path / "corrected.dcm"
    # Most of what can go wrong is in the header, and most of the bytes are not.
    cut = len(segmentation) - len(dcmread(BytesIO(segmentation)).PixelData)
    path.write_bytes(spoilt(random, segmentation[:cut]) + segmentation[cut:])
    said = complaint(SegmentationError, read_corrected_segmentation, path, series)
    assert said is None or said.startswith("corrected.dcm: ")


header = st.permutations(COLUMNS).map(",".join)
cells = st.lists(st.sampled_from(["", "1", "0", "a.png", "train", "\0", '"', "#", "é", "\r"]))


@fuzzed
@given(
    st.binary(max_size=200)
    | st.builds(lambda h, c: f"{h}\n{','.join(c)}\n".encode(), header, cells)
)
@example(b'"' + b"x" * 200_000)
def test_manifests(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    path.write_bytes(content)
    said = complaint(DatasetError, read_manifest, path)
    assert said is None or said.startswith(str(path))


@fuzzed
@given(content=st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
@example(content=b"[" * 100_000)
@example(content=b'{"transaction_uid": "1", "committed": {}, "failed": [[]]}')
def test_commitment_reports_on_disk(content: bytes, tmp_path_factory: Any) -> None:
    root = tmp_path_factory.mktemp("spool")
    (root / FOLDER).mkdir()
    (root / FOLDER / "a.json").write_bytes(content)
    for path, report in CommitmentReports(root).waiting():
        json.dumps([report.transaction_uid, report.committed, report.failed]).encode()
        CommitmentReports(root).drop(path)
    assert list((root / FOLDER).iterdir()) == []


NOTE = {
    "time": "2026-03-14T09:26:53+00:00",
    "reason": "calling_ae_not_allowed",
    "calling_ae_title": "STRANGER",
    "called_ae_title": "LUNGWATCH",
    "peer_address": "127.0.0.1",
    "detail": "The calling AE title is not on the list.",
    "sop_class_uid": None,
    "transfer_syntax_uids": [],
}
notes = st.builds(
    lambda name, value: json.dumps({**NOTE, name: value}).encode(),
    st.sampled_from([*NOTE, "other"]),
    json_values | st.sampled_from(["\ud800", "\0", "2026-03-14", [], {}, "x" * 10_000]),
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Spool]]:
    folder = tmp_path_factory.mktemp("site")
    database = Database(f"sqlite:///{folder / 'lungwatch.db'}")
    schema.upgrade(database.engine)
    spool = Spool(folder / "spool")
    spool.prepare()
    yield database, spool
    database.close()


@fuzzed
@given(content=notes | st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()))
@example(content=b"[" * 100_000)
@example(content=json.dumps({**NOTE, "reason": ["calling_ae_not_allowed"]}).encode())
@example(content=json.dumps({**NOTE, "peer_address": "\ud800"}).encode())
def test_refusal_notes_on_disk(content: bytes, site: tuple[Database, Spool]) -> None:
    """They go as far as the event log: one that could not would hold up all that come after it."""
    database, spool = site
    (spool.root / "refusals" / "00.json").write_bytes(content)
    Intake(database, spool, settle_seconds=1000).run_once()
    assert list((spool.root / "refusals").iterdir()) == []


def test_a_folder_among_the_notes_holds_up_none(tmp_path: Path) -> None:
    (tmp_path / "00.json").mkdir()
    (tmp_path / "01.json").write_text(json.dumps(NOTE))
    assert [path.name for path, _ in RefusalNotes(tmp_path).read()] == ["01.json"]


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=60
).map(lambda name: os.fsencode(name)[:200]) | st.sampled_from(
    [b"-.dcm", b"-", b"a-b-c.dcm", b".dcm", b"x" * 200, b"\xff\xfe-\xff.dcm", b"new\nline-0.dcm"]
)


@rarely
@given(name=names.filter(lambda name: name not in (b".", b"..")), random=seeds, whole=st.booleans())
def test_files_of_the_inbox_under_other_names(
    name: bytes,
    random: Random,
    site: tuple[Database, Spool],
    tmp_path_factory: pytest.TempPathFactory,
    *,
    whole: bool,
) -> None:
    """Each of them is filed or in quarantine afterwards, under a row that tells."""
    database, spool = site
    (file, *_) = write_small_ct(tmp_path_factory.mktemp("ct"))
    content = file.read_bytes() if whole else spoilt(random, file.read_bytes())
    inbox = os.fsencode(spool.root / "inbox")
    with open(os.path.join(inbox, name), "wb") as target:  # noqa: PTH118, PTH123 - no text
        target.write(content)
    Intake(database, spool, settle_seconds=1000).run_once()
    assert list(spool.inbox()) == []
    with database.reading() as session:
        for instance in session.query(Instance):
            assert (spool.root / instance.path).is_file()
        assert session.query(Event).count() > 0
