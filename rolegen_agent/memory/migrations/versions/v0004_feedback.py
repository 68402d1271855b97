"""What comes back from the shop: until when an outcome is known, what was engaged with, from what a slate was drawn, the
credit of path steps, and reports that could not be recorded.

Earlier slates keep NULL: they were not drawn. Earlier outcomes too: nobody said until when they were known.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outcomes", sa.Column("known_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outcomes", sa.Column("refunded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("outcomes", sa.Column("engaged", sa.JSON(), nullable=True))
    op.add_column("slates", sa.Column("draw", sa.JSON(), nullable=True))
    op.add_column("slate_items", sa.Column("propensity", sa.Double(), nullable=True))
    op.add_column("slate_items", sa.Column("drawn_from", sa.BigInteger(), nullable=True))
    op.create_table(
        "attributions",
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("path", sa.BigInteger(), nullable=True, autoincrement=False),
        sa.Column("step", sa.BigInteger(), nullable=True, autoincrement=False),
        sa.Column("item", sa.Text(), nullable=True),
        sa.Column("credit", sa.Double(), nullable=False),
        sa.Column("effect", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "seq", name="pk_attributions"),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.decision"], name="fk_attributions_decisions", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "dead_letters",
        sa.Column("letter", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("row", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("decision", sa.Text(), nullable=True),
        sa.Column("tries", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("letter", name="pk_dead_letters"),
    )
    op.create_index("ix_dead_letters_user_id", "dead_letters", ["user_id"])
