"""Checks over whole tables, as queries for the rows that contradict others."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Executable, and_, case, func, or_, select
from sqlalchemy.orm import aliased

from ..calls import OUTSTANDING
from ..models import Base, BegunRow, DecisionRow, LlmCallRow, SlateItemRow, SpendingRow
from ..spending import REMOVED, WHOLE_RUN
from .registry import Finding, table_check

_CENTS = 1e-6
"""US dollars by which sums of the same numbers in another order may differ"""


def _found(connection: Connection, table: str, query: Executable, what: str, key: int) -> Iterator[Finding]:
    """The rows of a query, whose first ``key`` columns name the row; ``what`` is filled with all columns."""
    for row in connection.execute(query.execution_options(yield_per=1000)):
        yield table, " ".join(map(str, row[:key])), what.format(*row)


@table_check("orphans")
def _orphans(connection: Connection) -> Iterator[Finding]:
    """Rows below something that is not there; the databases prevent them, unless somebody wrote around the memory."""
    for table in Base.metadata.sorted_tables:
        for constraint in table.foreign_key_constraints:
            pairs = [(element.parent, element.column) for element in constraint.elements]
            parent = constraint.referred_table
            there = select(1).where(*(theirs == ours for ours, theirs in pairs)).select_from(parent)
            query = select(*table.primary_key.columns).where(~there.correlate(table).exists())
            what = f"it belongs to no row of {parent.name}"
            yield from _found(connection, table.name, query, what, len(table.primary_key.columns))


@table_check("positions")
def _positions(connection: Connection) -> Iterator[Finding]:
    """Positions run from 0 without a gap, so that what was recorded comes back whole."""
    for table in Base.metadata.sorted_tables:
        if "seq" not in table.primary_key.columns:
            continue
        seq, owner = table.c.seq, [column for column in table.primary_key.columns if column.name != "seq"]
        query = (
            select(*owner, func.count(), func.max(seq))
            .group_by(*owner)
            .having(or_(func.count() != func.max(seq) + 1, func.min(seq) != 0))
        )
        what = f"{{{len(owner)}}} rows, and the last has position {{{len(owner) + 1}}}"
        yield from _found(connection, table.name, query, what, len(owner))


@table_check("ranks of other policies")
def _ranks(connection: Connection) -> Iterator[Finding]:
    query = select(SlateItemRow.decision, SlateItemRow.policy, SlateItemRow.seq, SlateItemRow.rank)
    query = query.where(SlateItemRow.policy.not_in(("rolegen", "backbone")), SlateItemRow.rank != SlateItemRow.seq + 1)
    yield from _found(connection, "slate_items", query, "the rank is {3}", 3)


@table_check("horizons")
def _horizons(connection: Connection) -> Iterator[Finding]:
    query = select(DecisionRow.decision).where(DecisionRow.horizon_end <= DecisionRow.at)
    yield from _found(connection, "decisions", query, "the horizon ends before it begins", 1)


@table_check("begun decisions")
def _begun(connection: Connection) -> Iterator[Finding]:
    """Recording a decision takes back the note that it was begun."""
    query = select(BegunRow.decision).join(DecisionRow, DecisionRow.decision == BegunRow.decision)
    yield from _found(connection, "begun", query, "the decision is recorded, and noted as begun", 1)


@table_check("calls of nobody")
def _calls(connection: Connection) -> Iterator[Finding]:
    """A call whose decision is unknown can be counted for no run, and found for no user."""
    known = select(DecisionRow.decision).union_all(select(BegunRow.decision)).subquery()
    query = select(LlmCallRow.decision, LlmCallRow.round, LlmCallRow.node, LlmCallRow.request_hash)
    query = query.where(~select(1).where(known.c.decision == LlmCallRow.decision).exists())
    yield from _found(connection, "llm_calls", query, "its decision was neither begun nor recorded", 4)


@table_check("spending of runs")
def _runs(connection: Connection) -> Iterator[Finding]:
    """What a run has spent is the sum over its decisions, removed ones included."""
    parts, whole = aliased(SpendingRow), aliased(SpendingRow)
    sums = (
        select(
            parts.run,
            func.sum(parts.calls).label("calls"),
            func.sum(parts.tokens).label("tokens"),
            func.sum(parts.usd).label("usd"),
        )
        .where(parts.decision != WHOLE_RUN)
        .group_by(parts.run)
        .subquery()
    )
    query = (
        select(whole.run, whole.calls, sums.c.calls, whole.tokens, sums.c.tokens, whole.usd, sums.c.usd)
        .outerjoin(sums, sums.c.run == whole.run)
        .where(
            whole.decision == WHOLE_RUN,
            or_(
                whole.calls != func.coalesce(sums.c.calls, 0),
                whole.tokens != func.coalesce(sums.c.tokens, 0),
                func.abs(whole.usd - func.coalesce(sums.c.usd, 0.0)) > _CENTS * (1 + func.abs(whole.usd)),
            ),
        )
    )
    what = "calls {1}, tokens {3}, USD {5}; its decisions add up to {2}, {4}, {6}"
    yield from _found(connection, "llm_spending", query, what, 1)


@table_check("spending of decisions")
def _spending(connection: Connection) -> Iterator[Finding]:
    """A decision has spent at least what its calls say: a request whose program was killed stands in no call."""
    sent = LlmCallRow.cached.is_(False)
    used = (
        select(
            LlmCallRow.decision,
            func.sum(case((sent, LlmCallRow.retries + 1), else_=0)).label("calls"),
            func.sum(case((sent, LlmCallRow.input_tokens + LlmCallRow.output_tokens), else_=0)).label("tokens"),
            func.sum(case((sent, func.coalesce(LlmCallRow.cost_usd, 0.0)), else_=0.0)).label("usd"),
        )
        .where(LlmCallRow.error != OUTSTANDING)
        .group_by(LlmCallRow.decision)
        .subquery()
    )
    query = (
        select(
            SpendingRow.run,
            SpendingRow.decision,
            SpendingRow.calls,
            used.c.calls,
            SpendingRow.tokens,
            used.c.tokens,
            SpendingRow.usd,
            used.c.usd,
        )
        .join(used, used.c.decision == SpendingRow.decision)
        .where(
            SpendingRow.decision.not_in((WHOLE_RUN, REMOVED)),
            or_(
                SpendingRow.calls < used.c.calls,
                SpendingRow.tokens < used.c.tokens,
                SpendingRow.usd < used.c.usd - _CENTS * (1 + used.c.usd),
            ),
        )
    )
    what = "calls {2}, tokens {4}, USD {6}; by its calls {3}, {5}, {7}"
    yield from _found(connection, "llm_spending", query, what, 2)
    known = select(DecisionRow.decision).union_all(select(BegunRow.decision)).subquery()
    orphaned = select(SpendingRow.run, SpendingRow.decision).where(
        and_(
            SpendingRow.decision.not_in((WHOLE_RUN, REMOVED)),
            ~select(1).where(known.c.decision == SpendingRow.decision).exists(),
        )
    )
    yield from _found(connection, "llm_spending", orphaned, "its decision was neither begun nor recorded", 2)
