"""Checks of what lists show: digests and their sums by day say what the decisions, calls and outcomes say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from ..digests import DAY_KEY, PROMPT_KEY, Sums, derive, sums_of
from ..models import DecisionDayRow, DecisionRow, DigestRow, PromptDayRow
from ..store import chunks, columns
from .registry import Finding, table_check

_ROUNDED = 1e-6
"""sums of the same numbers in another order differ by less, for each decision in them"""


@table_check("digests")
def wrong_digests(connection: Connection) -> Iterator[Finding]:
    """Every decision has the digest that follows from it, and every sum is that of the digests."""
    sums: Sums = {}
    for chunk in chunks(list(connection.execute(select(DecisionRow.decision)).scalars())):
        query = select(*columns(DigestRow)).where(DigestRow.decision.in_(chunk))
        stored = {row["decision"]: row for row in connection.execute(query).mappings()}
        for derived in _derived(connection, chunk):
            key = derived["decision"]
            if key not in stored:
                yield "digests", key, "the decision has none"
            elif wrong := [name for name, value in derived.items() if not _same(value, stored[key][name])]:
                told = f"{wrong[0]} is {stored[key][wrong[0]]!r}, its decision says {derived[wrong[0]]!r}"
                yield "digests", key, told
        for key, part in sums_of(connection, chunk).items():
            sums.setdefault(key, Counter()).update(part)
    for table, names in ((DecisionDayRow, DAY_KEY), (PromptDayRow, PROMPT_KEY)):
        yield from _wrong_sums(connection, table, names, sums)


def _derived(connection: Connection, keys: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Without decisions that cannot be read; of those the check of their words tells."""
    try:
        yield from derive(connection, keys)
    except (ValueError, KeyError, TypeError):
        if len(keys) > 1:
            for key in keys:
                yield from _derived(connection, [key])


def _wrong_sums(connection: Connection, table: Any, names: tuple[str, ...], sums: Sums) -> Iterator[Finding]:
    left = {key for which, key in sums if which is table}
    for row in connection.execute(select(*columns(table))).mappings():
        key = tuple(row[name] for name in names)
        left.discard(key)
        derived: Mapping[Any, Any] = sums.get((table, key), Counter())
        for name in row:
            if name not in names and not _same(derived[name], row[name], 1 + row["decisions"]):
                yield (
                    table.__tablename__,
                    " ".join(map(str, key)),
                    f"{name} is {row[name]}, its decisions add up to {derived[name]}",
                )
    for key in sorted(left, key=str):
        yield table.__tablename__, " ".join(map(str, key)), "the sums are missing"


def _same(derived: Any, stored: Any, parts: int = 1) -> bool:
    if isinstance(derived, float) or isinstance(stored, float):
        return math.isclose(derived, stored, rel_tol=1e-9, abs_tol=_ROUNDED * parts)
    return bool(derived == stored)
