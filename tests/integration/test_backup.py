"""Backup and restore: into either database, and on with the work of an emptied installation."""

from __future__ import annotations

import json
import shutil
import zipfile
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select
from support.command import lungwatch
from support.installation import Installation
from support.quick_screening import QuickPredictor
from support.small_ct import write_small_ct
from support.study_rows import screened_study

from worker.audit.trail import acted
from worker.audit_entry import AuditAction
from worker.cli.exit_codes import ExitCode
from worker.db import deliveries, dump, events, schema
from worker.db.base import Base
from worker.db.engine import Database
from worker.db.tables import Event, Instance, Study
from worker.errors import BackupError
from worker.lifecycle import DeliveryState, StudyState
from worker.retention.reconciliation import Reconciled, reconcile
from worker.services.alone import without_another_node, without_another_node_on

if TYPE_CHECKING:
    from pathlib import Path


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Every value of every table."""
    with database.engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table))]
            for table in Base.metadata.sorted_tables
        }


@pytest.fixture
def filled(tmp_path: Path) -> Database:
    """A database with a delivered study, an audit trail and times with microseconds."""
    database = Database(f"sqlite:///{tmp_path / 'filled.db'}")
    schema.upgrade(database.engine)
    with database.transaction() as session:
        screening = screened_study(session)
        screening.result = {"objects": [], "words": "Ünïcode\n\u2028"}
        deliveries.mark_delivered(session, screening.deliveries[0].id)
        acted(session, AuditAction.STUDY_REQUEUED, screening.study)
    return database


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_backup_restores_into_either_database_and_its_keys_count_on(
    kind: str, filled: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    file = tmp_path / "backup.zip"
    manifest = dump.backup(filled.engine, file)
    assert file.stat().st_mode & 0o077 == 0, "it holds patients' names"
    url = (
        f"sqlite:///{tmp_path / 'restored.db'}"
        if kind == "sqlite"
        else request.getfixturevalue("postgresql_url")
    )
    restored = Database(url)
    assert dump.restore(restored.engine, file) == manifest
    assert schema.check(restored.engine).up_to_date
    assert rows_of(restored) == rows_of(filled)

    # And back again, from whichever it is.
    dump.backup(restored.engine, tmp_path / "again.zip")
    assert dump.read_manifest(tmp_path / "again.zip").tables == manifest.tables
    with restored.transaction() as session:
        events.record(session, "goes_on")
        session.flush()
        (highest,) = session.execute(select(func.max(Event.id))).one()
        assert session.get_one(Event, highest).event == "goes_on"
        screened_study(session, "1.9")
    restored.close()


def test_an_older_backup_is_brought_up_to_date(filled: Database, tmp_path: Path) -> None:
    older = Database(f"sqlite:///{tmp_path / 'older.db'}")
    schema.upgrade(older.engine, "0003")
    with older.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO events (at, event, detail) VALUES ('2026-01-02 03:04:05.6', 'old', '{}')"
        )
    file = tmp_path / "older.zip"
    with pytest.raises(BackupError, match="lungwatch db upgrade"):
        dump.backup(older.engine, file)
    assert not file.exists()


def test_nothing_is_restored_over_something(filled: Database, tmp_path: Path) -> None:
    dump.backup(filled.engine, tmp_path / "backup.zip")
    before = rows_of(filled)
    with pytest.raises(BackupError, match="not empty"):
        dump.restore(filled.engine, tmp_path / "backup.zip")
    assert rows_of(filled) == before


def changed_table(path: Path, target: Path, change) -> None:
    """A copy of a backup of which the table of the studies was changed."""
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, change(content) if name == "studies.jsonl" else content)


@pytest.mark.parametrize(
    "change",
    [lambda _: b"", lambda lines: lines.replace(b"1.2.3", b"1.2.4"), lambda lines: lines[:-9]],
    ids=["emptied", "changed", "torn"],
)
def test_a_damaged_backup_restores_nothing(filled: Database, tmp_path: Path, change) -> None:
    dump.backup(filled.engine, tmp_path / "backup.zip")
    changed_table(tmp_path / "backup.zip", tmp_path / "damaged.zip", change)
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(BackupError, match=r"damaged\.zip is damaged"):
        dump.restore(empty.engine, tmp_path / "damaged.zip")
    assert not any(rows_of_present(empty).values())
    dump.restore(empty.engine, tmp_path / "backup.zip")
    assert rows_of(empty) == rows_of(filled)


def rows_of_present(database: Database) -> dict[str, int]:
    with database.engine.connect() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in dump._tables(connection)
        }


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"no zip"])
def test_what_is_no_backup_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.zip"
    file.write_bytes(content)
    with pytest.raises(BackupError, match=r"other\.zip is no backup"):
        dump.read_manifest(file)


def test_a_backup_of_a_later_version_is_not_tried(filled: Database, tmp_path: Path) -> None:
    dump.backup(filled.engine, tmp_path / "backup.zip")
    with zipfile.ZipFile(tmp_path / "backup.zip") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    with zipfile.ZipFile(tmp_path / "later.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps({**manifest, "revision": "9999"}))
    empty = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(BackupError, match="revision 9999"):
        dump.restore(empty.engine, tmp_path / "later.zip")


# ---- going on -----------------------------------------------------------------------------------

SETTINGS = {"minimum_slices": 3, "minimum_coverage_mm": 1, "destinations": "dimse://P@127.0.0.1:9"}


@pytest.fixture
def site(tmp_path: Path) -> Installation:
    """A study that is screened and waits for a PACS that is away; backed up like this."""
    site = Installation(tmp_path / "data", **SETTINGS)
    site.files = write_small_ct(tmp_path / "ct")
    site.receive(site.files)
    site.screen(QuickPredictor())
    assert site.study().state is StudyState.DELIVERING
    dump.backup(site.database.engine, tmp_path / "backup.zip")
    return site


def restored(site: Installation, tmp_path: Path) -> Reconciled:
    """Lose the database, restore the backup and bring it together with what is on disk."""
    site.database.close()
    for path in site.settings.data_dir.glob("lungwatch.db*"):
        path.unlink()
    given = {**SETTINGS, "data_dir": site.settings.data_dir}
    done = lungwatch("db", "restore", tmp_path / "backup.zip", "--json", **given)
    assert done.code == 0, done.stderr
    return Reconciled(**done.json["reconciled"])


@pytest.mark.parametrize("command", [("reconcile",), ("restore", "backup.zip")])
def test_a_data_folder_with_a_node_at_work_is_not_put_in_order(site, tmp_path, command):
    given = {**SETTINGS, "data_dir": site.settings.data_dir}
    name, *files = command
    with without_another_node(site.settings.data_dir, ""):
        done = lungwatch("db", name, *(tmp_path / file for file in files), **given)
    assert done.code == ExitCode.STATE
    assert f"a node works with {site.settings.data_dir}: stop it and the workers first" in (
        done.stderr
    )


@pytest.mark.parametrize("command", [("reconcile",), ("restore", "backup.zip")])
def test_nor_is_one_whose_database_a_node_of_another_host_works_with(
    site, tmp_path, postgresql_url, command
):
    given = {**SETTINGS, "data_dir": site.settings.data_dir, "database_url": postgresql_url}
    name, *files = command
    database = Database(postgresql_url)
    schema.upgrade(database.engine)
    with without_another_node_on(database, ""):
        done = lungwatch("db", name, *(tmp_path / file for file in files), **given)
    database.close()
    assert done.code == ExitCode.STATE
    assert "a node works with postgresql" in done.stderr
    assert "stop it and the workers first" in done.stderr


def test_what_came_after_the_backup_is_found_and_makes_a_new_revision(site, tmp_path):
    (late, *_) = write_small_ct(tmp_path / "late", study="other")
    site.receive([late])
    assert restored(site, tmp_path) == Reconciled(1, 0, 0, 0)

    with site.database.reading() as session:
        assert session.query(Study).count() == 1
    site.intake.run_once()
    with site.database.reading() as session:
        assert session.query(Study).count() == 2
        assert session.query(Instance).count() == len(site.files) + 1
    site.assembler.run_once()
    assert list((site.settings.spool_dir / "inbox").iterdir()) == []
    assert reconcile(site.database, site.settings.spool_dir, site.settings.results_dir) == (
        Reconciled(0, 0, 0, 0)
    )


def test_results_that_are_lost_are_made_again_from_the_images(site, tmp_path):
    before = site.study().screenings[0]
    shutil.rmtree(site.settings.results_dir)
    assert restored(site, tmp_path) == Reconciled(0, 0, 1, 1)
    site.assembler.run_once()
    site.screen(QuickPredictor())
    study = site.study()
    assert study.state is StudyState.DELIVERING
    after = study.screenings[-1]
    assert (after.revision, after.result_identity) == (2, before.result_identity)
    assert {d.sha256 for d in after.deliveries} == {d.sha256 for d in before.deliveries}
    assert {d.state for d in after.deliveries} == {DeliveryState.PENDING}


def test_an_empty_disk_says_of_each_study_what_to_do_and_sending_it_again_helps(site, tmp_path):
    shutil.rmtree(site.settings.spool_dir)
    shutil.rmtree(site.settings.results_dir)
    assert restored(site, tmp_path) == Reconciled(0, len(site.files), 1, 0)
    study = site.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "files_lost")
    site.spool.prepare()
    site.receive(site.files)
    assert site.study().state is StudyState.QUEUED
    site.screen(QuickPredictor())
    study = site.study()
    assert study.state is StudyState.DELIVERING
    assert all(
        (site.settings.results_dir / d.path).is_file() for d in study.screenings[-1].deliveries
    )


def test_images_lost_before_the_screening_fail_the_study(tmp_path):
    site = Installation(tmp_path / "data", **SETTINGS)
    site.receive(files := write_small_ct(tmp_path / "ct"))
    assert site.study().state is StudyState.QUEUED
    next((site.settings.spool_dir / "studies").rglob("*.dcm")).unlink()
    done = reconcile(site.database, site.settings.spool_dir, site.settings.results_dir)
    assert done == Reconciled(0, 1, 0, 0)
    study = site.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "files_lost")
    assert "1 of its images" in study.detail
    site.receive(files)
    assert site.study().state is StudyState.QUEUED
