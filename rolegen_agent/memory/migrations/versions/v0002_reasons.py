"""Why things were decided: both sides of a fused role label, which paths were used, and why an LLM was asked or not.

Earlier decisions keep NULL and no rows: they were decided without fusion, selection or gate.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("role_labels", sa.Column("parts", sa.JSON(), nullable=True))
    op.add_column("decisions", sa.Column("worth", sa.JSON(), nullable=True))
    op.create_table(
        "path_choices",
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("round", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("path", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=True, autoincrement=False),
        sa.Column("effect", sa.Double(), nullable=True),
        sa.Column("likeness", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("decision", "round", "seq", name="pk_path_choices"),
        sa.ForeignKeyConstraint(
            ["decision", "round"],
            ["rounds.decision", "rounds.round"],
            name="fk_path_choices_rounds",
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
