"""The audit trail: who did what, each line chained to the one before it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Row triggers do not see a TRUNCATE.
_APPEND_ONLY = ("audit_events", "events", "reviews", "test_sets", "promotions")
_FOLLOWS = """
    NEW.number <> COALESCE((SELECT MAX(number) FROM audit_events), 0) + 1
    OR NEW.previous_digest <> COALESCE(
        (SELECT digest FROM audit_events ORDER BY number DESC LIMIT 1),
        '0000000000000000000000000000000000000000000000000000000000000000'
    )
"""


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("number", _KEY, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("actor_kind", sa.String(length=16), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=128), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous_digest", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("previous_digest", name=op.f("uq_audit_events_previous_digest")),
    )
    with op.batch_alter_table("audit_events", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_events_at"), ["at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_audit_events_study_instance_uid"), ["study_instance_uid"], unique=False
        )

    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR DELETE ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
        )
    op.execute(
        "CREATE FUNCTION check_audit_chain() RETURNS trigger AS "
        f"$$ BEGIN IF {_FOLLOWS} THEN "
        "RAISE EXCEPTION 'an audit event has to follow the one before it'; END IF; "
        "RETURN NEW; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER audit_events_chain BEFORE INSERT ON audit_events "
        "FOR EACH ROW EXECUTE FUNCTION check_audit_chain()"
    )


def _guard_sqlite() -> None:
    for action in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_events_no_{action.lower()} BEFORE {action} ON audit_events "
            "BEGIN SELECT RAISE(ABORT, 'audit_events is append-only'); END"
        )
    # It also stops INSERT OR REPLACE, for which SQLite runs no DELETE trigger.
    op.execute(
        f"CREATE TRIGGER audit_events_chain BEFORE INSERT ON audit_events WHEN {_FOLLOWS} "
        "BEGIN SELECT RAISE(ABORT, 'an audit event has to follow the one before it'); END"
    )


def downgrade() -> None:
    op.drop_table("audit_events")
    if op.get_bind().dialect.name == "postgresql":
        for table in _APPEND_ONLY[1:]:
            op.execute(f"DROP TRIGGER {table}_no_truncate ON {table}")
        op.execute("DROP FUNCTION refuse_audit_change()")
        op.execute("DROP FUNCTION check_audit_chain()")
