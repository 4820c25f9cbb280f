"""The database's schema brought up to date, with a line in the audit trail where that did it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.audit.attempts import attempt
from worker.audit.trail import acted
from worker.audit_entry import AuditAction
from worker.db import schema

if TYPE_CHECKING:
    from worker.db.engine import Database


def upgrade_schema(database: Database) -> str:
    """Run the migrations the database lacks; return the revision it has then.

    A database that is made here stays empty, without a line: a backup may be restored into it.
    """
    action = AuditAction.DATABASE_UPGRADED
    with attempt(database, action, begins_trail=False):
        before = schema.check(database.engine).current
        schema.upgrade(database.engine)
        current = schema.expected_revision()
        if before not in {None, current}:
            with database.transaction() as session:
                acted(session, action, before=before, revision=current)
    return current
