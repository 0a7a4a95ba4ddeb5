"""What a store says of itself: its own id, and which programs may use its schema.

Each later migration says so anew, in its last line, or older programs refuse what it made:

    UPDATE store SET revision = '0005', usable_from = '0004'

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "store",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.Column("usable_from", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store")),
    )
    op.bulk_insert(
        table, [{"id": secrets.token_hex(8), "revision": revision, "usable_from": revision}]
    )


def downgrade() -> None:
    op.drop_table("store")
