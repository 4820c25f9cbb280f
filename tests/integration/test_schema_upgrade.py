"""Bringing the schema up to date is on record, by whichever command, where it did anything."""

from contextlib import closing

from support.audit_lines import lines, the_only

from worker.audit_entry import AuditAction
from worker.db import schema
from worker.db.engine import Database
from worker.schema_upgrade import upgrade_schema


def test_an_upgrade_is_on_record_and_the_making_of_a_database_is_not(tmp_path):
    with closing(Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")) as database:
        schema.upgrade(database.engine, "0005")
        assert upgrade_schema(database) == schema.expected_revision()
        line = the_only(database)
        assert line.action is AuditAction.DATABASE_UPGRADED
        assert line.detail == {"before": "0005", "revision": schema.expected_revision()}
        upgrade_schema(database)
        assert len(lines(database)) == 1
    with closing(Database(f"sqlite:///{tmp_path / 'new.db'}")) as made:
        upgrade_schema(made)
        assert lines(made) == []
