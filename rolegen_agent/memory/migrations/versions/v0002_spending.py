"""What LLM requests of a run have used: budgets that outlive a program need a table of their own, since requests under
way and repeated ones stand in no call yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "llm_spending",
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("usd", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run", "decision", name="pk_llm_spending"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_llm_spending_decision", "llm_spending", ["decision"])
