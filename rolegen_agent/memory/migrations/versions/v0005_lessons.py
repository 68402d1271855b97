"""Lessons with a claim that outcomes can judge, and a row for each decision that speaks for or against one.

Earlier lessons are free text without a claim: they stay in force as they were. Earlier paths have no kind.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("paths", sa.Column("kind", sa.Text(), nullable=True))
    op.add_column("lessons", sa.Column("claim", sa.JSON(), nullable=True))
    op.add_column("lessons", sa.Column("status", sa.Text(), nullable=False, server_default="active"))
    op.add_column("lessons", sa.Column("origin", sa.Text(), nullable=False, server_default=sa.text("''")))
    op.add_column("lessons", sa.Column("effect", sa.JSON(), nullable=True))
    op.create_table(
        "lesson_evidence",
        sa.Column("lesson", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("led", sa.Boolean(), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("supports", sa.Boolean(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("lesson", "decision", "noted_at", name="pk_lesson_evidence"),
        sa.ForeignKeyConstraint(
            ["lesson", "noted_at"],
            ["lessons.lesson", "lessons.learnt_at"],
            name="fk_lesson_evidence_lessons",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["decision"], ["decisions.decision"], name="fk_lesson_evidence_decisions", ondelete="CASCADE"
        ),
        # An outcome is noted once the whole horizon has passed, and a decision never before itself.
        sa.CheckConstraint("decided_at < known_at AND known_at <= noted_at", name="ck_lesson_evidence_past"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_lesson_evidence_decision", "lesson_evidence", ["decision"])
