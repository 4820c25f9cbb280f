"""Whatever is thrown at the node, it stays healthy and accounts for every file."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pydicom
import pytest
from pynetdicom import AE, _config
from support.spooling import encoded_dataset
from support.system import wait_until

from dicom_node.receiving.spool import content_digest
from worker.db.engine import Database
from worker.db.tables import Event, Instance, Study
from worker.lifecycle import StudyState

_SUCCESS = 0x0000


def send(path, port):
    """Send one file as it is; tell its content's digest, or what the node would not talk about."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    ae = AE("STORESCU")
    ae.add_requested_context(dataset.SOPClassUID, syntax)
    association = ae.associate("127.0.0.1", port, ae_title="LUNGWATCH")
    if not association.is_established:
        return None, (str(dataset.SOPClassUID), syntax)
    status = association.send_c_store(path)
    association.release()
    assert status.Status == _SUCCESS, path.name
    return content_digest(encoded_dataset(path), syntax), None


@pytest.fixture
def send_files_as_they_are():
    """Let pynetdicom send the bytes of a file instead of decoding and encoding them."""
    before, _config.STORE_SEND_CHUNKED_DATASET = _config.STORE_SEND_CHUNKED_DATASET, True
    yield
    _config.STORE_SEND_CHUNKED_DATASET = before


@pytest.mark.usefixtures("send_files_as_they_are")
def test_every_odd_file_at_once(embedded_system, data_dir):
    port = embedded_system.port
    files = [
        path
        for path in sorted((data_dir / "odd").rglob("*"))
        if path.is_file() and "LICENSE" not in path.name and path.name != "DIRFILE"
    ]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: send(path, port), files))
    received = {digest for digest, _ in answers if digest}
    turned_away = {refused for _, refused in answers if refused}
    assert len(answers) == len(files)
    assert all(digest or refused for digest, refused in answers)
    assert embedded_system.listens()

    url = embedded_system.settings.resolved_database_url
    with closing(Database(url)) as database:
        wait_until("all odd files in the database", lambda: received <= known_digests(database))
        wait_until("the refusals in the event log", lambda: turned_away <= refusals(database))
        wait_until("every study at rest", lambda: not waiting(database))
        with database.reading() as session:
            odd = session.query(Instance).where(Instance.content_digest.in_(received))
            studies = {instance.study_id for instance in odd}
            for study in session.query(Study).where(Study.id.in_(studies)):
                assert study.state in {StudyState.REFUSED, StudyState.IGNORED}
                assert study.reason


def known_digests(database):
    """Digests of what is on record; exact duplicates among the files share one."""
    with database.reading() as session:
        return {digest for (digest,) in session.query(Instance.content_digest)}


def refusals(database):
    with database.reading() as session:
        notes = session.query(Event).filter_by(event="refused_at_association")
        return {
            (note.detail["sop_class_uid"], syntax)
            for note in notes
            for syntax in note.detail["transfer_syntax_uids"]
        }


def waiting(database):
    with database.reading() as session:
        return session.query(Study).filter_by(state=StudyState.RECEIVING).count()
