"""The tables of the loop memory.

What identity means: a decision is one (run, user, at), and ``decision`` is the digest of that key. Everything that was
recorded with it hangs below it by (decision, round, seq), where ``seq`` is the position in the recorded tuple, so that
a decision is rebuilt exactly. Calls do not hang below a decision: they are written before it is finished.

What is searched (users, items, roles, fates, policies, times) has a column; what is only shown is JSON of a word.
There are no relationships: all queries live in ``repository.py``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    UniqueConstraint,
    literal_column,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from rolegen_graphs.words import (
    Answer,
    Claim,
    Draw,
    Intent,
    ItemSpec,
    LabelParts,
    LessonEffect,
    Observation,
    Slate,
    Statistic,
    Worth,
)

from .columns import Document, Real, SafeText, UtcTime

# WITHOUT ROWID stores a row once, in its key order, instead of in a table and an index of the same long key.
_CLUSTERED = {"sqlite_with_rowid": False}


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: SafeText(),
        int: BigInteger(),
        float: Real(),
        datetime: UtcTime(),
    }


def _key(**options: Any) -> Any:
    return mapped_column(primary_key=True, autoincrement=False, **options)


class DecisionRow(Base):
    __tablename__ = "decisions"
    __table_args__ = (UniqueConstraint("run", "user_id", "at"), Index(None, "user_id", "at"))
    decision: Mapped[str] = _key()
    run: Mapped[str]
    user_id: Mapped[str]  # "user" would silently mean the database role in PostgreSQL
    at: Mapped[datetime]
    horizon_end: Mapped[datetime]
    reasoner: Mapped[str]
    observation: Mapped[Any] = mapped_column(Document(Observation))
    recorded_at: Mapped[datetime]
    worth: Mapped[Any | None] = mapped_column(Document(Worth))
    trace_id: Mapped[str | None]  # 32 hexadecimal digits of the OpenTelemetry trace that it was made in


class BegunRow(Base):
    """A decision that was started and is not recorded yet: names the run and user of calls made so far."""

    __tablename__ = "begun"
    __table_args__ = (Index(None, "user_id"), Index(None, "run"))
    decision: Mapped[str] = _key()
    run: Mapped[str]
    user_id: Mapped[str]
    at: Mapped[datetime]
    begun_at: Mapped[datetime]


class RoundRow(Base):
    __tablename__ = "rounds"
    __table_args__ = (ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"), _CLUSTERED)
    decision: Mapped[str] = _key()
    round: Mapped[int] = _key()
    intent: Mapped[Any] = mapped_column(Document(Intent))
    slate: Mapped[Any] = mapped_column(Document(Slate))
    lessons: Mapped[Any] = mapped_column(Document(tuple[str, ...]))
    answers: Mapped[Any] = mapped_column(Document(tuple[Answer, ...]))


class _OfRound:
    """Key columns of everything that hangs below a round."""

    decision: Mapped[str] = _key()
    round: Mapped[int] = _key()
    seq: Mapped[int] = _key()


def _below_round() -> tuple[Any, ...]:
    return (
        ForeignKeyConstraint(["decision", "round"], ["rounds.decision", "rounds.round"], ondelete="CASCADE"),
        _CLUSTERED,
    )


class RoleLabelRow(_OfRound, Base):
    __tablename__ = "role_labels"
    __table_args__ = _below_round()
    event: Mapped[int]
    item: Mapped[str]
    role: Mapped[str]
    confidence: Mapped[float]
    evidence: Mapped[Any] = mapped_column(Document(tuple[int, ...]))
    intent_before: Mapped[Any] = mapped_column(Document(Intent))
    intent_after: Mapped[Any] = mapped_column(Document(Intent))
    statistic: Mapped[Any | None] = mapped_column(Document(Statistic))
    why: Mapped[str]
    parts: Mapped[Any | None] = mapped_column(Document(LabelParts))


class PathRow(_OfRound, Base):
    __tablename__ = "paths"
    __table_args__ = _below_round()
    path: Mapped[int]
    operation: Mapped[str]
    intervention: Mapped[Any] = mapped_column(Document(ItemSpec))
    replaces: Mapped[int | None]
    steps: Mapped[Any] = mapped_column(Document(tuple[ItemSpec, ...]))
    why: Mapped[str]
    kind: Mapped[str | None]


class CandidateRow(_OfRound, Base):
    __tablename__ = "candidates"
    __table_args__ = _below_round()
    path: Mapped[int]
    step: Mapped[int]
    role: Mapped[str]
    spec: Mapped[Any] = mapped_column(Document(ItemSpec))
    fate: Mapped[str]
    reason: Mapped[str]
    item: Mapped[str | None]
    title: Mapped[str]
    score: Mapped[float]
    revised: Mapped[bool]


class EffectRow(_OfRound, Base):
    __tablename__ = "effects"
    __table_args__ = _below_round()
    path: Mapped[int]
    probability_without: Mapped[float]
    probability_with: Mapped[float]
    change: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]


class PathChoiceRow(_OfRound, Base):
    __tablename__ = "path_choices"
    __table_args__ = _below_round()
    path: Mapped[int]
    chosen: Mapped[bool]
    place: Mapped[int | None]
    effect: Mapped[float | None]
    likeness: Mapped[float | None]
    reason: Mapped[str]


class SignalRow(_OfRound, Base):
    __tablename__ = "signals"
    __table_args__ = _below_round()
    kind: Mapped[str]
    detail: Mapped[str]
    path: Mapped[int | None]
    step: Mapped[int | None]
    event: Mapped[int | None]
    value: Mapped[float]


class CorrectionRow(_OfRound, Base):
    __tablename__ = "corrections"
    __table_args__ = _below_round()
    kind: Mapped[str]
    detail: Mapped[str]
    path: Mapped[int | None]
    event: Mapped[int | None]


class SlateRow(Base):
    """One slate for each decision and policy; ``rolegen`` and ``backbone`` belong to the recorded decision."""

    __tablename__ = "slates"
    __table_args__ = (ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"), _CLUSTERED)
    decision: Mapped[str] = _key()
    policy: Mapped[str] = _key()
    entropy: Mapped[float]
    draw: Mapped[Any | None] = mapped_column(Document(Draw))


class SlateItemRow(Base):
    __tablename__ = "slate_items"
    __table_args__ = (
        ForeignKeyConstraint(["decision", "policy"], ["slates.decision", "slates.policy"], ondelete="CASCADE"),
        _CLUSTERED,
    )
    decision: Mapped[str] = _key()
    policy: Mapped[str] = _key()
    seq: Mapped[int] = _key()
    rank: Mapped[int]
    item: Mapped[str]
    title: Mapped[str]
    category: Mapped[str]
    score: Mapped[float]
    parts: Mapped[Any] = mapped_column(Document(dict[str, float]))
    role: Mapped[str | None]
    path: Mapped[int | None]
    propensity: Mapped[float | None]
    drawn_from: Mapped[int | None]
    showing: Mapped[float | None]


class OutcomeRow(Base):
    __tablename__ = "outcomes"
    __table_args__ = (ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"),)
    decision: Mapped[str] = _key()
    user_id: Mapped[str]
    ordered_at: Mapped[datetime | None]
    items: Mapped[Any] = mapped_column(Document(tuple[str, ...]))
    value: Mapped[float]
    final: Mapped[bool]
    recorded_at: Mapped[datetime]
    known_at: Mapped[datetime | None]
    refunded_at: Mapped[datetime | None]
    engaged: Mapped[Any | None] = mapped_column(Document(tuple[str, ...]))


class AttributionRow(Base):
    """What the steps of a decision's paths had to do with its order. Derived from decision, outcome and recommender, and
    deleted when the outcome changes: what is missing is to be computed again."""

    __tablename__ = "attributions"
    __table_args__ = (ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"), _CLUSTERED)
    decision: Mapped[str] = _key()
    seq: Mapped[int] = _key()
    path: Mapped[int | None]
    step: Mapped[int | None]
    item: Mapped[str | None]
    credit: Mapped[float]
    effect: Mapped[float]


class DeadLetterRow(Base):
    """A report of an outcome that could not be recorded, kept until it can be. ``letter`` digests source, row and payload;
    ``payload`` holds known fields only, and ``complete`` says that none of them had to be cut."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "user_id"),)
    letter: Mapped[str] = _key()
    source: Mapped[str]
    row: Mapped[int]
    reason: Mapped[str]
    payload: Mapped[str]
    complete: Mapped[bool]
    user_id: Mapped[str | None]
    decision: Mapped[str | None]  # as reported: it need not be one of ours
    tries: Mapped[int]
    received_at: Mapped[datetime]


class LessonRow(Base):
    """One version of a lesson. New evidence is a new version with its own ``learnt_at``, so that an earlier decision
    never sees what was learnt after it."""

    __tablename__ = "lessons"
    __table_args__ = (Index(None, "scope", "scope_key", "learnt_at"),)
    lesson: Mapped[str] = _key()
    learnt_at: Mapped[datetime] = _key()
    scope: Mapped[str]
    scope_key: Mapped[str]
    text: Mapped[str]
    expires_at: Mapped[datetime | None]
    evidence_for: Mapped[int]
    evidence_against: Mapped[int]
    claim: Mapped[Any | None] = mapped_column(Document(Claim))
    status: Mapped[str] = mapped_column(server_default="active")
    origin: Mapped[str] = mapped_column(server_default=literal_column("''"))
    effect: Mapped[Any | None] = mapped_column(Document(LessonEffect))


class LessonEvidenceRow(Base):
    """What one decision's outcome says of one lesson, as noted by the version learnt at ``noted_at``. A version counts, of
    each decision, the latest row noted by then; an outcome that changed later is noted again by a later version."""

    __tablename__ = "lesson_evidence"
    __table_args__ = (
        ForeignKeyConstraint(
            ["lesson", "noted_at"],
            ["lessons.lesson", "lessons.learnt_at"],
            ondelete="CASCADE",
            name="fk_lesson_evidence_lessons",
        ),
        ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"),
        CheckConstraint("decided_at < known_at AND known_at <= noted_at", name="past"),
        Index(None, "decision"),
        _CLUSTERED,
    )
    lesson: Mapped[str] = _key()
    decision: Mapped[str] = _key()
    noted_at: Mapped[datetime] = _key()
    led: Mapped[bool]
    ordered: Mapped[bool]
    supports: Mapped[bool]
    decided_at: Mapped[datetime]
    known_at: Mapped[datetime]


class LessonUseRow(Base):
    """Which version of which lesson a decision was shown; derived from its observation when it is recorded."""

    __tablename__ = "lesson_uses"
    __table_args__ = (
        ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"),
        Index(None, "lesson"),
        _CLUSTERED,
    )
    decision: Mapped[str] = _key()
    seq: Mapped[int] = _key()
    lesson: Mapped[str]
    learnt_at: Mapped[datetime]


class _Spent:
    """What LLM calls used; ``cached`` ones cost nothing, ``unpriced`` are paid ones whose cost is unknown."""

    calls: Mapped[int]
    cached: Mapped[int]
    failed: Mapped[int]
    retries: Mapped[int]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cost_usd: Mapped[float]
    unpriced: Mapped[int]
    seconds: Mapped[float]


class DigestRow(_Spent, Base):
    """What lists of decisions show and filter by; derived from the decision, its calls and its outcome (``digests.py``)."""

    __tablename__ = "digests"
    __table_args__ = (
        ForeignKeyConstraint(["decision"], ["decisions.decision"], ondelete="CASCADE"),
        Index(None, "recorded_at", "decision"),
        Index(None, "at", "decision"),
        Index(None, "cost_usd", "decision"),
        Index(None, "seconds", "decision"),
        Index(None, "run", "recorded_at", "decision"),
        Index(None, "user_id", "at"),
        _CLUSTERED,
    )
    decision: Mapped[str] = _key()
    run: Mapped[str]
    user_id: Mapped[str]
    at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    cohort: Mapped[str]
    reasoner: Mapped[str]
    stage: Mapped[str]
    category: Mapped[str | None]
    roles: Mapped[str]  # between blanks, as the prompts: " bridge target "
    prompts: Mapped[str]
    top: Mapped[str]
    words: Mapped[str]
    rounds: Mapped[int]
    shown: Mapped[int]
    fresh: Mapped[int]
    accepted: Mapped[int]
    mapped: Mapped[int]
    rejected: Mapped[int]
    collapsed: Mapped[bool]
    outcome: Mapped[str]
    value: Mapped[float]


class DecisionDayRow(_Spent, Base):
    """Sums of the digests of one day of decision times; kept with every change of a digest."""

    __tablename__ = "decision_days"
    __table_args__ = (_CLUSTERED,)
    day: Mapped[datetime] = _key()
    run: Mapped[str] = _key()
    cohort: Mapped[str] = _key()
    reasoner: Mapped[str] = _key()
    decisions: Mapped[int]
    known: Mapped[int]
    awakened: Mapped[int]
    collapsed: Mapped[int]
    value: Mapped[float]


class PromptDayRow(_Spent, Base):
    """Sums of the calls of recorded decisions by prompt, and what became of those decisions."""

    __tablename__ = "prompt_days"
    __table_args__ = (_CLUSTERED,)
    day: Mapped[datetime] = _key()
    run: Mapped[str] = _key()
    prompt: Mapped[str] = _key()
    prompt_version: Mapped[str] = _key()
    prompt_hash: Mapped[str] = _key()
    model: Mapped[str] = _key()
    decisions: Mapped[int]
    known: Mapped[int]
    awakened: Mapped[int]


class LlmCallRow(Base):
    __tablename__ = "llm_calls"
    __table_args__ = (Index(None, "request_hash"),)
    decision: Mapped[str] = _key()
    round: Mapped[int] = _key()
    node: Mapped[str] = _key()
    request_hash: Mapped[str] = _key()
    prompt: Mapped[str]
    prompt_version: Mapped[str]
    prompt_hash: Mapped[str]
    model: Mapped[str]
    messages: Mapped[str]
    raw: Mapped[str]
    error: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    cost_usd: Mapped[float | None]
    latency_s: Mapped[float]
    retries: Mapped[int]
    cached: Mapped[bool]
    at: Mapped[datetime]


class SpendingRow(Base):
    """What LLM requests of a run have used, requests under way included; ``decision`` is empty for the whole run. A budget
    is checked and taken here in one transaction, so that it holds for a resumed run and for programs side by side."""

    __tablename__ = "llm_spending"
    __table_args__ = (Index(None, "decision"), _CLUSTERED)
    run: Mapped[str] = _key()
    decision: Mapped[str] = _key()
    calls: Mapped[int]
    tokens: Mapped[int]
    usd: Mapped[float]


class PromptRow(Base):
    """Every prompt text that was ever used, so that an old trace can show it."""

    __tablename__ = "prompts"
    name: Mapped[str] = _key()
    version: Mapped[str] = _key()
    hash: Mapped[str] = _key()
    text: Mapped[str]
    recorded_at: Mapped[datetime]


class ArtefactRow(Base):
    """A file that was made from the log (an index, a statistic, a model); ``fingerprint`` digests what it was made of."""

    __tablename__ = "artefacts"
    kind: Mapped[str] = _key()
    as_of: Mapped[datetime] = _key()
    fingerprint: Mapped[str] = _key()
    path: Mapped[str]
    manifest: Mapped[Any] = mapped_column(Document(dict[str, Any]))
    created: Mapped[datetime]


class RemovalRow(Base):
    """That rows were erased or pruned, and how many of which table; of whom is not said."""

    __tablename__ = "removals"
    removed_at: Mapped[datetime] = _key()
    kind: Mapped[str]
    before: Mapped[datetime | None]
    rows: Mapped[Any] = mapped_column(Document(dict[str, int]))


class PromotionRow(Base):
    """What became of an update: promoted or rolled back, with the figures that decided. ``wanted`` digests what the update
    was made from, so that the same command is not a second update."""

    __tablename__ = "promotions"
    at: Mapped[datetime] = _key()
    from_fingerprint: Mapped[str] = _key()
    wanted: Mapped[str] = _key()
    to_fingerprint: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
    held_from: Mapped[datetime]
    figures: Mapped[Any] = mapped_column(Document(dict[str, Any]))
    recorded_at: Mapped[datetime]


class ToldEventRow(Base):
    """What a shop told a running server of a user, ahead of the log. ``told`` digests what makes two of them the same: the
    user with the shop's own id of the event, or with its time, item, behaviour and session (``told.py``)."""

    __tablename__ = "told_events"
    __table_args__ = (Index(None, "user_id", "at"), Index(None, "received_at"))
    told: Mapped[str] = _key()
    user_id: Mapped[str]
    at: Mapped[datetime]
    item: Mapped[str]
    behaviour: Mapped[str]
    quantity: Mapped[float]
    price: Mapped[float | None]
    session: Mapped[str | None]
    event_id: Mapped[str | None]  # by the shop; else all that is said of the event makes its key
    received_at: Mapped[datetime]
