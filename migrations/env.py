"""Alembic's entry: the same for ``alembic ...`` in a checkout and ``queuectl db upgrade``."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from queuectl.db.models import Base
from queuectl.db.schema import migrating
from queuectl.settings import locate_store


def run(connection: Connection) -> None:
    """Run the migrations that were asked for on this connection."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        compare_type=True,
        transactional_ddl=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    context.configure(
        url="sqlite://", target_metadata=Base.metadata, literal_binds=True, render_as_batch=True
    )
    with context.begin_transaction():
        context.run_migrations()
elif given is not None:
    run(given)
else:
    with migrating(locate_store(None)) as connection:
        run(connection)
