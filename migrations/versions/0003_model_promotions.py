"""Model versions with their manifests, locked test sets, and the promotions between versions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_APPEND_ONLY = ("test_sets", "promotions")


def upgrade() -> None:
    # Two versions may share their weights: another calibration is another version.
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("manifest_sha256", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("registered_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.alter_column(
            "first_used_at", existing_type=sa.DateTime(timezone=True), nullable=True
        )
        batch_op.drop_constraint(batch_op.f("uq_model_versions_sha256"), type_="unique")
        batch_op.create_unique_constraint(
            batch_op.f("uq_model_versions_name"), ["name", "version", "sha256"]
        )

    op.create_table(
        "test_sets",
        sa.Column("id", _KEY, nullable=False),
        sa.Column("locked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_by", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_test_sets")),
    )
    op.create_table(
        "promotions",
        sa.Column("number", _KEY, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("model_version_id", _KEY, nullable=False),
        sa.Column("previous_id", _KEY, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("overridden", sa.Boolean(), nullable=False),
        sa.Column("test_set_id", _KEY, nullable=True),
        sa.Column("comparison", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["model_versions.id"],
            name=op.f("fk_promotions_model_version_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["previous_id"],
            ["model_versions.id"],
            name=op.f("fk_promotions_previous_id_model_versions"),
        ),
        sa.ForeignKeyConstraint(
            ["test_set_id"], ["test_sets.id"], name=op.f("fk_promotions_test_set_id_test_sets")
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_promotions")),
    )

    # Who brought which network into use, and on what grounds, is for ever.
    postgresql = op.get_bind().dialect.name == "postgresql"
    for table in _APPEND_ONLY:
        if postgresql:
            op.execute(
                f"CREATE FUNCTION refuse_{table}_change() RETURNS trigger AS "
                f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$ LANGUAGE plpgsql"
            )
            op.execute(
                f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
                f"FOR EACH ROW EXECUTE FUNCTION refuse_{table}_change()"
            )
        else:
            for action in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )


def downgrade() -> None:
    op.drop_table("promotions")
    op.drop_table("test_sets")
    if op.get_bind().dialect.name == "postgresql":
        for table in _APPEND_ONLY:
            op.execute(f"DROP FUNCTION refuse_{table}_change()")
    with op.batch_alter_table("model_versions", schema=None) as batch_op:
        batch_op.drop_constraint(batch_op.f("uq_model_versions_name"), type_="unique")
        batch_op.create_unique_constraint(batch_op.f("uq_model_versions_sha256"), ["sha256"])
        batch_op.alter_column(
            "first_used_at", existing_type=sa.DateTime(timezone=True), nullable=False
        )
        batch_op.drop_column("registered_at")
        batch_op.drop_column("manifest_sha256")
