"""The first schema: decisions and all that hangs below them, outcomes, lessons, calls, prompts and artefacts.

A migration is history: it names plain SQL types and imports nothing of the package, so that it never changes meaning.
There is no downgrade: below the first schema lies only the loss of everything remembered.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ZONED = sa.DateTime(timezone=True)


def _text(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=nullable)


def _int(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable, autoincrement=False)


def _real(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Double(), nullable=nullable)


def _time(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _ZONED, nullable=nullable)


def _json(name: str, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=nullable)


def _bool(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _table(name: str, key: tuple[str, ...], *rest: Any, clustered: bool = False) -> None:
    options = {"sqlite_with_rowid": False} if clustered else {}
    op.create_table(name, *rest, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"), **options)


def _parent(name: str, table: str, *columns: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        columns, [f"{table}.{column}" for column in columns], name=f"fk_{name}_{table}", ondelete="CASCADE"
    )


def _below_round(name: str, *columns: Any) -> None:
    _table(
        name,
        ("decision", "round", "seq"),
        _text("decision"),
        _int("round"),
        _int("seq"),
        *columns,
        _parent(name, "rounds", "decision", "round"),
        clustered=True,
    )


def upgrade() -> None:
    _table(
        "decisions",
        ("decision",),
        _text("decision"),
        _text("run"),
        _text("user_id"),
        _time("at"),
        _time("horizon_end"),
        _text("reasoner"),
        _json("observation"),
        _time("recorded_at"),
        sa.UniqueConstraint("run", "user_id", "at", name="uq_decisions_run_user_id_at"),
    )
    op.create_index("ix_decisions_user_id_at", "decisions", ["user_id", "at"])
    _table("begun", ("decision",), _text("decision"), _text("run"), _text("user_id"), _time("at"), _time("begun_at"))
    op.create_index("ix_begun_user_id", "begun", ["user_id"])
    op.create_index("ix_begun_run", "begun", ["run"])
    _table(
        "rounds",
        ("decision", "round"),
        _text("decision"),
        _int("round"),
        _json("intent"),
        _json("slate"),
        _json("lessons"),
        _json("answers"),
        _parent("rounds", "decisions", "decision"),
        clustered=True,
    )
    _below_round(
        "role_labels",
        _int("event"),
        _text("item"),
        _text("role"),
        _real("confidence"),
        _json("evidence"),
        _json("intent_before"),
        _json("intent_after"),
        _json("statistic", nullable=True),
        _text("why"),
    )
    _below_round(
        "paths",
        _int("path"),
        _text("operation"),
        _json("intervention"),
        _int("replaces", nullable=True),
        _json("steps"),
        _text("why"),
    )
    _below_round(
        "candidates",
        _int("path"),
        _int("step"),
        _text("role"),
        _json("spec"),
        _text("fate"),
        _text("reason"),
        _text("item", nullable=True),
        _text("title"),
        _real("score"),
        _bool("revised"),
    )
    _below_round(
        "effects",
        _int("path"),
        _real("probability_without"),
        _real("probability_with"),
        _real("change"),
        _real("low"),
        _real("high"),
    )
    _below_round(
        "signals",
        _text("kind"),
        _text("detail"),
        _int("path", nullable=True),
        _int("step", nullable=True),
        _int("event", nullable=True),
        _real("value"),
    )
    _below_round(
        "corrections", _text("kind"), _text("detail"), _int("path", nullable=True), _int("event", nullable=True)
    )
    _table(
        "slates",
        ("decision", "policy"),
        _text("decision"),
        _text("policy"),
        _real("entropy"),
        _parent("slates", "decisions", "decision"),
        clustered=True,
    )
    _table(
        "slate_items",
        ("decision", "policy", "seq"),
        _text("decision"),
        _text("policy"),
        _int("seq"),
        _int("rank"),
        _text("item"),
        _text("title"),
        _text("category"),
        _real("score"),
        _json("parts"),
        _text("role", nullable=True),
        _int("path", nullable=True),
        _parent("slate_items", "slates", "decision", "policy"),
        clustered=True,
    )
    _table(
        "outcomes",
        ("decision",),
        _text("decision"),
        _text("user_id"),
        _time("ordered_at", nullable=True),
        _json("items"),
        _real("value"),
        _bool("final"),
        _time("recorded_at"),
        _parent("outcomes", "decisions", "decision"),
    )
    _table(
        "lessons",
        ("lesson", "learnt_at"),
        _text("lesson"),
        _time("learnt_at"),
        _text("scope"),
        _text("scope_key"),
        _text("text"),
        _time("expires_at", nullable=True),
        _int("evidence_for"),
        _int("evidence_against"),
    )
    op.create_index("ix_lessons_scope_scope_key_learnt_at", "lessons", ["scope", "scope_key", "learnt_at"])
    _table(
        "lesson_uses",
        ("decision", "seq"),
        _text("decision"),
        _int("seq"),
        _text("lesson"),
        _time("learnt_at"),
        _parent("lesson_uses", "decisions", "decision"),
        clustered=True,
    )
    op.create_index("ix_lesson_uses_lesson", "lesson_uses", ["lesson"])
    _table(
        "llm_calls",
        ("decision", "round", "node", "request_hash"),
        _text("decision"),
        _int("round"),
        _text("node"),
        _text("request_hash"),
        _text("prompt"),
        _text("prompt_version"),
        _text("prompt_hash"),
        _text("model"),
        _text("messages"),
        _text("raw"),
        _text("error"),
        _int("input_tokens"),
        _int("output_tokens"),
        _real("cost_usd", nullable=True),
        _real("latency_s"),
        _int("retries"),
        _bool("cached"),
        _time("at"),
    )
    op.create_index("ix_llm_calls_request_hash", "llm_calls", ["request_hash"])
    _table(
        "prompts",
        ("name", "version", "hash"),
        _text("name"),
        _text("version"),
        _text("hash"),
        _text("text"),
        _time("recorded_at"),
    )
    _table(
        "artefacts",
        ("kind", "as_of", "fingerprint"),
        _text("kind"),
        _time("as_of"),
        _text("fingerprint"),
        _text("path"),
        _json("manifest"),
        _time("created"),
    )
