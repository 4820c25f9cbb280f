"""Storage commitment, circuits of destinations, what retention cleaned, one result in force."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_IN_FORCE = sa.text("state IN ('queued', 'running', 'succeeded')")


def upgrade() -> None:
    for table in ("studies", "instances", "screenings"):
        _add(table, sa.Column("cleaned_at", sa.DateTime(timezone=True), nullable=True))
    _add("studies", _flag("files_to_remove"))
    _add("deliveries", _text("commitment", 16, "not_asked"))
    _add("deliveries", sa.Column("commitment_due_at", sa.DateTime(timezone=True), nullable=True))
    _add("deliveries", _count("commitment_attempts"))
    _add("deliveries", _count("commitment_failures"))
    _add("deliveries", sa.Column("commitment_error", sa.Text(), nullable=False, server_default=""))
    _add("deliveries", sa.Column("committed_at", sa.DateTime(timezone=True), nullable=True))
    # What was delivered before is asked for as well: only then may its study be cleaned.
    op.execute(
        "UPDATE deliveries SET commitment = 'waiting', commitment_due_at = delivered_at "
        "WHERE state = 'delivered'"
    )
    op.create_index("ix_deliveries_commitment", "deliveries", ["commitment", "commitment_due_at"])
    op.create_index(
        "uq_deliveries_kind", "deliveries", ["screening_id", "destination", "kind"], unique=True
    )
    op.create_index(
        "uq_screenings_in_force",
        "screenings",
        ["study_id"],
        unique=True,
        sqlite_where=_IN_FORCE,
        postgresql_where=_IN_FORCE,
    )

    op.create_table(
        "commitment_requests",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=128), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_commitment_requests")),
    )
    op.create_table(
        "circuits",
        sa.Column("destination", sa.String(length=128), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("probe_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("destination", name=op.f("pk_circuits")),
    )


def downgrade() -> None:
    op.drop_table("circuits")
    op.drop_table("commitment_requests")
    op.drop_index("uq_screenings_in_force", "screenings")
    op.drop_index("uq_deliveries_kind", "deliveries")
    op.drop_index("ix_deliveries_commitment", "deliveries")
    for column in (
        "committed_at",
        "commitment_error",
        "commitment_failures",
        "commitment_attempts",
        "commitment_due_at",
        "commitment",
    ):
        op.drop_column("deliveries", column)
    op.drop_column("studies", "files_to_remove")
    for table in ("studies", "instances", "screenings"):
        op.drop_column(table, "cleaned_at")


def _add(table: str, column: sa.Column) -> None:
    op.add_column(table, column)


def _flag(name: str) -> sa.Column:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())


def _text(name: str, length: int, default: str) -> sa.Column:
    return sa.Column(name, sa.String(length=length), nullable=False, server_default=default)


def _count(name: str) -> sa.Column:
    return sa.Column(name, sa.Integer(), nullable=False, server_default="0")
