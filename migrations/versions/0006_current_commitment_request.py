"""Each delivery names the commitment request whose report counts for it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # What was asked for before has none: a failure that is reported for it is asked for again.
    op.add_column(
        "deliveries", sa.Column("commitment_transaction_uid", sa.String(length=64), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("deliveries", "commitment_transaction_uid")
