"""Alembic's entry: runs the migrations on the connection or URL it is handed."""

from alembic import context

from worker.db.engine import make_engine
from worker.db.tables import Study


def migrate() -> None:
    """Run the migrations in one transaction."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    url = context.config.get_main_option("sqlalchemy.url")
    if not url:
        raise SystemExit("Run the migrations with `lungwatch db upgrade`.")
    with make_engine(url).connect() as own_connection, own_connection.begin():
        _run(own_connection)


def _run(connection) -> None:  # noqa: ANN001 - Alembic loads this file by path
    context.configure(
        connection=connection,
        target_metadata=Study.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


migrate()
