"""What the audit trail of a database holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.db import audit

if TYPE_CHECKING:
    from worker.db.engine import Database
    from worker.db.tables import AuditEvent


def lines(database: Database) -> list[AuditEvent]:
    with database.reading() as session:
        return list(audit.in_order(session))


def the_only(database: Database) -> AuditEvent:
    (line,) = lines(database)
    return line
