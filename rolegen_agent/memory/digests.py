"""Digests: one narrow row for each decision, which lists show and filter by, and their sums by day.

Both are derived: a digest from the decision, its calls and its outcome, the sums from digests and calls. Whoever changes one
of those does so within :func:`tallied`, which adds the difference to the sums in the same transaction.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Text, bindparam, case, cast, delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from rolegen_graphs.words import Draw, Outcome

from ..report.text import clean
from .models import (
    CandidateRow,
    DecisionDayRow,
    DecisionRow,
    DigestRow,
    LlmCallRow,
    OutcomeRow,
    PromptDayRow,
    RoleLabelRow,
    RoundRow,
    SignalRow,
    SlateItemRow,
    SlateRow,
)
from .records import OUTSTANDING

Values = dict[str, Any]
SPENT = ("calls", "cached", "failed", "retries", "input_tokens", "output_tokens", "cost_usd", "unpriced", "seconds")
DAY_KEY = ("day", "run", "cohort", "reasoner")
PROMPT_KEY = ("day", "run", "prompt", "prompt_version", "prompt_hash", "model")
_TOP, _WORDS = 80, 400  # characters
_CHUNK = 500

Sums = dict[tuple[Any, tuple[Any, ...]], Counter[Any]]
"""by table of sums and key"""

_PAID = LlmCallRow.cached.is_(False)
_SPENT = [  # of calls that were answered or failed, not of those that a nearline batch has still to answer
    func.count().label("calls"),
    func.sum(case((LlmCallRow.cached, 1), else_=0)).label("cached"),
    func.sum(case((LlmCallRow.error != "", 1), else_=0)).label("failed"),
    func.sum(LlmCallRow.retries).label("retries"),
    func.sum(case((_PAID, LlmCallRow.input_tokens), else_=0)).label("input_tokens"),
    func.sum(case((_PAID, LlmCallRow.output_tokens), else_=0)).label("output_tokens"),
    func.sum(case((_PAID, func.coalesce(LlmCallRow.cost_usd, 0.0)), else_=0.0)).label("cost_usd"),
    func.sum(case((_PAID & LlmCallRow.cost_usd.is_(None), 1), else_=0)).label("unpriced"),
    func.sum(case((_PAID, LlmCallRow.latency_s), else_=0.0)).label("seconds"),
]
_CALLS = (LlmCallRow.error != OUTSTANDING,)

# Each decision is recorded with all of these, and building a statement takes longer than running it: once is enough.
_KEYS: Any = bindparam("keys", expanding=True)
_HEADS = (
    select(
        DecisionRow.decision,
        DecisionRow.run,
        DecisionRow.user_id,
        DecisionRow.at,
        DecisionRow.recorded_at,
        DecisionRow.reasoner,
        # Taken apart here: PostgreSQL's functions refuse a document in which anything holds a NUL or a lone surrogate.
        cast(DecisionRow.observation, Text).label("seen"),
        OutcomeRow.ordered_at,
        OutcomeRow.final,
        OutcomeRow.refunded_at,
        OutcomeRow.value,
    )
    .outerjoin(OutcomeRow, OutcomeRow.decision == DecisionRow.decision)
    .where(DecisionRow.decision.in_(_KEYS))
)
_ROUNDS = (
    select(RoundRow.decision, RoundRow.round, RoundRow.intent)
    .where(RoundRow.decision.in_(_KEYS))
    .order_by(RoundRow.decision, RoundRow.round)
)


def _counts(row: Any, column: Any) -> Any:
    """How often each value of a column stands in each round."""
    query = select(row.decision, row.round, column, func.count()).where(row.decision.in_(_KEYS))
    return query.group_by(row.decision, row.round, column)


_ROLES = _counts(RoleLabelRow, RoleLabelRow.role)
_FATES = _counts(CandidateRow, CandidateRow.fate)
_SIGNALS = _counts(SignalRow, SignalRow.kind)
_SLATES = (
    select(SlateItemRow.decision, SlateItemRow.policy, SlateItemRow.item, SlateItemRow.title)
    .where(SlateItemRow.decision.in_(_KEYS), SlateItemRow.policy.in_(("rolegen", "backbone")))
    .order_by(SlateItemRow.decision, SlateItemRow.policy, SlateItemRow.seq)
)
_DRAWS = select(SlateRow.decision, SlateRow.draw).where(
    SlateRow.decision.in_(_KEYS), SlateRow.policy == "rolegen", SlateRow.draw.is_not(None)
)
_BY_PROMPT = (
    LlmCallRow.decision,
    LlmCallRow.prompt,
    LlmCallRow.prompt_version,
    LlmCallRow.prompt_hash,
    LlmCallRow.model,
)
_SPENT_BY_PROMPT = select(*_BY_PROMPT, *_SPENT).where(LlmCallRow.decision.in_(_KEYS), *_CALLS).group_by(*_BY_PROMPT)
_SUMMED = ("decision", "run", "cohort", "reasoner", "at", "outcome", "collapsed", "value", *SPENT)
_DIGESTS = select(*(getattr(DigestRow, name) for name in _SUMMED)).where(DigestRow.decision.in_(_KEYS))
_DELETE = delete(DigestRow).where(DigestRow.decision.in_(_KEYS))


def outcome_word(ordered_at: datetime | None, final: bool | None, refunded_at: datetime | None) -> str:
    """One of ``ordered``, ``refunded``, ``not_ordered``, ``open`` (so far without an order) and ``unknown``."""
    if final is None:
        return "unknown"
    if ordered_at is not None:
        return "ordered"
    if refunded_at is not None:
        return "refunded"
    return "not_ordered" if final else "open"


KNOWN_OUTCOMES = ("ordered", "refunded", "not_ordered")
"""those that count where a share of awakened users is told"""


def derive(connection: Connection, keys: Sequence[str]) -> list[Values]:
    """The digests of recorded decisions (at most a few hundred), from the tables; unknown ones are left out."""
    bound = {"keys": list(keys)}
    intents: dict[str, tuple[int, Any]] = {}
    counted: Counter[str] = Counter()
    for key, number, intent in connection.execute(_ROUNDS, bound):
        intents[key] = number, intent
        counted[key] += 1
    roles = _of_last_round(connection, intents, _ROLES)
    fates = _of_last_round(connection, intents, _FATES)
    signals = _of_last_round(connection, intents, _SIGNALS)
    slates = _slates(connection, keys)
    calls, prompts = _calls(connection, keys)
    found = []
    for head in connection.execute(_HEADS, bound):
        key = head.decision
        _, intent = intents.get(key, (0, None))
        items, fresh = slates.get(key, ([], 0))
        titles = [title or item for item, title in items]
        words = [*titles, intent.need, intent.category or ""] if intent else titles
        found.append(
            {
                **{name: getattr(head, name) for name in ("decision", "run", "user_id", "at", "recorded_at")},
                "cohort": clean(json.loads(head.seen)["trajectory"]["cohort"])[:_TOP],
                "reasoner": head.reasoner,
                "stage": intent.stage if intent else "",
                "category": intent.category if intent else None,
                "roles": _listed(roles[key]),
                "prompts": _listed(prompts[key]),
                "top": clean(titles[0][:400])[:_TOP] if titles else "",
                "words": clean(" ".join(word[:400] for word in words)).lower()[:_WORDS],
                "rounds": counted[key],
                "shown": len(items),
                "fresh": fresh,
                **{fate: fates[key][fate] for fate in ("accepted", "mapped", "rejected")},
                "collapsed": signals[key]["collapse"] > 0,
                "outcome": outcome_word(head.ordered_at, head.final, head.refunded_at),
                "value": head.value or 0.0,
                **calls.get(key, dict.fromkeys(SPENT, 0)),
            }
        )
    return found


def refresh(connection: Connection, keys: Sequence[str]) -> None:
    """Derive the digests of some decisions again and store them; the sums are :func:`tallied`'s."""
    connection.execute(_DELETE, {"keys": list(keys)})
    if values := derive(connection, keys):
        connection.execute(_inserting(connection.dialect.name, DigestRow), values)


def note_outcomes(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Tell digests what came of their decisions; nothing else of them has changed."""
    table: Any = DigestRow.__table__
    statement = update(table).where(table.c.decision == bindparam("key"))
    statement = statement.values(outcome=bindparam("word"), value=bindparam("paid"))
    values = [
        {"key": one.decision, "word": outcome_word(one.ordered_at, one.final, one.refunded_at), "paid": one.value}
        for one in outcomes
    ]
    if values:
        connection.execute(statement, values)


def sums_of(connection: Connection, keys: Sequence[str]) -> Sums:
    """What the digests of some decisions, and their calls, add to the sums of days."""
    sums: Sums = defaultdict(Counter)
    for start in range(0, len(keys), _CHUNK):
        _add_sums(connection, keys[start : start + _CHUNK], sums)
    return sums


def _add_sums(connection: Connection, keys: Sequence[str], sums: Sums) -> None:
    facts: dict[str, tuple[Any, Counter[str]]] = {}
    for row in connection.execute(_DIGESTS, {"keys": list(keys)}).mappings():
        day = row["at"].replace(hour=0, minute=0, second=0, microsecond=0)
        met = Counter(
            decisions=1, known=int(row["outcome"] in KNOWN_OUTCOMES), awakened=int(row["outcome"] == "ordered")
        )
        facts[row["decision"]] = (day, row["run"]), met
        more = {"collapsed": int(row["collapsed"]), "value": row["value"], **{name: row[name] for name in SPENT}}
        sums[DecisionDayRow, (day, row["run"], row["cohort"], row["reasoner"])].update(met)
        sums[DecisionDayRow, (day, row["run"], row["cohort"], row["reasoner"])].update(more)
    for row in connection.execute(_SPENT_BY_PROMPT, {"keys": list(facts)}).mappings():
        where, met = facts[row["decision"]]
        key = (*where, *(row[column.name] for column in _BY_PROMPT[1:]))
        sums[PromptDayRow, key].update(met)
        sums[PromptDayRow, key].update({name: _number(row[name]) for name in SPENT})


@contextmanager
def tallied(connection: Connection, keys: Sequence[str], *, new: bool = False) -> Iterator[None]:
    """Carry what the block changes in digests and calls of ``keys`` over to the sums of days.

    The caller holds the rows of these decisions, so that two writers take turns. The rows of sums are written last of all and
    in the order of their keys, so that nobody waits in a circle. ``new``: there was nothing before.
    """
    before = {} if new else sums_of(connection, keys)
    yield
    after = sums_of(connection, keys)
    _add(connection, before, after)


def fill(connection: Connection, progress: Callable[[int], None] = lambda done: None) -> None:
    """Derive what is missing, for decisions that were recorded before there were digests."""
    done, last = 0, ""
    missing = ~exists().where(DigestRow.decision == DecisionRow.decision)
    query = select(DecisionRow.decision).where(missing).order_by(DecisionRow.decision).limit(_CHUNK)
    while keys := connection.execute(query.where(DecisionRow.decision > last)).scalars().all():
        with tallied(connection, keys, new=True):
            connection.execute(_inserting(connection.dialect.name, DigestRow), derive(connection, keys))
        done, last = done + len(keys), keys[-1]
        progress(done)


def _of_last_round(connection: Connection, last: dict[str, tuple[int, Any]], counts: Any) -> dict[str, Counter[str]]:
    """How often each value stands in the last round of each decision."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for key, number, value, count in connection.execute(counts, {"keys": list(last)}):
        if number == last[key][0]:
            found[key][value] = count
    return found


def _slates(connection: Connection, keys: Sequence[str]) -> dict[str, tuple[list[tuple[str, str]], int]]:
    """(item, title) of each slate in its order, and how many of its items only reasoning brought in."""
    bound = {"keys": list(keys)}
    shown: dict[str, list[tuple[str, str]]] = defaultdict(list)
    plain: dict[str, set[str]] = defaultdict(set)
    for key, policy, item, title in connection.execute(_SLATES, bound):
        if policy == "rolegen":
            shown[key].append((item, title))
        else:
            plain[key].add(item)
    draws: dict[str, Draw] = {row.decision: row.draw for row in connection.execute(_DRAWS, bound)}
    return {
        key: (items, sum(fresh(item, plain[key], draws.get(key)) for item, _ in items)) for key, items in shown.items()
    }


def fresh(item: str, without: Iterable[str], draw: Draw | None) -> bool:
    """Whether only reasoning brought an item into a slate; what chance brought up, reasoning did not."""
    return item not in without and (draw is None or item in draw.late)


def _calls(connection: Connection, keys: Sequence[str]) -> tuple[dict[str, Values], dict[str, set[str]]]:
    spent: dict[str, Values] = {}
    prompts: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(_SPENT_BY_PROMPT, {"keys": list(keys)}).mappings():
        sums = spent.setdefault(row["decision"], dict.fromkeys(SPENT, 0))
        for name in SPENT:
            sums[name] += _number(row[name])
        prompts[row["decision"]].add(f"{row['prompt']}@{row['prompt_version']}")
    return spent, prompts


def _number(value: Any) -> Any:
    """PostgreSQL sums integers to decimals."""
    return value if isinstance(value, float) else int(value or 0)


def _add(connection: Connection, before: Sums, after: Sums) -> None:
    for table, key_names in ((DecisionDayRow, DAY_KEY), (PromptDayRow, PROMPT_KEY)):
        keys = sorted({key for which, key in (*before, *after) if which is table}, key=lambda key: tuple(map(str, key)))
        names = [column.name for column in table.__table__.columns if column.name not in key_names]
        values = []
        for key in keys:
            old, new = before.get((table, key), Counter[Any]()), after.get((table, key), Counter[Any]())
            if change := {name: new[name] - old[name] for name in names if new[name] != old[name]}:
                values.append({**dict(zip(key_names, key, strict=True)), **dict.fromkeys(names, 0), **change})
        if not values:
            continue
        connection.execute(_adding(connection.dialect.name, table, key_names), values)
        if any(key not in (k for which, k in after if which is table) for key in keys):
            connection.execute(delete(table).where(table.decisions == 0))


@cache
def _adding(dialect: str, table: Any, key_names: tuple[str, ...]) -> Any:
    """What adds numbers to rows of sums, built once."""
    statement = _inserting(dialect, table)
    added = {
        column.name: column + statement.excluded[column.name]
        for column in table.__table__.columns
        if column.name not in key_names
    }
    return statement.on_conflict_do_update(index_elements=key_names, set_=added)


@cache
def _inserting(dialect: str, table: Any) -> Any:
    return (sqlite.insert if dialect == "sqlite" else postgresql.insert)(table)


def _listed(names: Iterable[str]) -> str:
    """Names between blanks, so that one of them is found as ``% name %``; empty without any."""
    found = " ".join(sorted(names))
    return f" {found} " if found else ""
