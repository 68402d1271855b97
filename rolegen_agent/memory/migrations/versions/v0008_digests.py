"""What lists of decisions show and filter by, one narrow row for each decision, and sums of them by day.

A page over a million decisions cannot read their observations, rounds and calls. Rows of decisions that were recorded
earlier are derived once all revisions are in place (``digests.fill``). A decision may name the OpenTelemetry trace it was
made in, and a place in a slate what showing its item brings; earlier ones do not.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def _reals(*names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Double(), nullable=False) for name in names]


def upgrade() -> None:
    op.add_column("decisions", _text("trace_id", nullable=True))
    op.add_column("slate_items", sa.Column("showing", sa.Double(), nullable=True))
    op.create_table(
        "digests",
        _text("decision"),
        _text("run"),
        _text("user_id"),
        _time("at"),
        _time("recorded_at"),
        _text("cohort"),
        _text("reasoner"),
        _text("stage"),
        _text("category", nullable=True),
        _text("roles"),
        _text("prompts"),
        _text("top"),
        _text("words"),
        *_numbers("rounds", "shown", "fresh", "accepted", "mapped", "rejected"),
        sa.Column("collapsed", sa.Boolean(), nullable=False),
        _text("outcome"),
        *_reals("value"),
        *_numbers("calls", "cached", "failed", "retries", "input_tokens", "output_tokens"),
        *_reals("cost_usd"),
        *_numbers("unpriced"),
        *_reals("seconds"),
        sa.PrimaryKeyConstraint("decision", name="pk_digests"),
        sa.ForeignKeyConstraint(["decision"], ["decisions.decision"], name="fk_digests_decisions", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    for first in ("recorded_at", "at", "cost_usd", "seconds"):
        op.create_index(f"ix_digests_{first}_decision", "digests", [first, "decision"])
    op.create_index("ix_digests_run_recorded_at_decision", "digests", ["run", "recorded_at", "decision"])
    op.create_index("ix_digests_user_id_at", "digests", ["user_id", "at"])
    op.create_table(
        "decision_days",
        _time("day"),
        _text("run"),
        _text("cohort"),
        _text("reasoner"),
        *_numbers("decisions", "known", "awakened", "collapsed"),
        *_reals("value"),
        *_numbers("calls", "cached", "failed", "retries", "input_tokens", "output_tokens"),
        *_reals("cost_usd"),
        *_numbers("unpriced"),
        *_reals("seconds"),
        sa.PrimaryKeyConstraint("day", "run", "cohort", "reasoner", name="pk_decision_days"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "prompt_days",
        _time("day"),
        _text("run"),
        _text("prompt"),
        _text("prompt_version"),
        _text("prompt_hash"),
        _text("model"),
        *_numbers("decisions", "known", "awakened"),
        *_numbers("calls", "cached", "failed", "retries", "input_tokens", "output_tokens"),
        *_reals("cost_usd"),
        *_numbers("unpriced"),
        *_reals("seconds"),
        sa.PrimaryKeyConstraint(
            "day", "run", "prompt", "prompt_version", "prompt_hash", "model", name="pk_prompt_days"
        ),
        sqlite_with_rowid=False,
    )
