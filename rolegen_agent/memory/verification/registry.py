"""What a check is, and the two lists that hold all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection

from rolegen_graphs.words import Decision


class Difference(NamedTuple):
    """Something stored that is not what follows from the rest."""

    check: str
    table: str
    key: str
    """of the row, its parts separated by blanks"""
    what: str


@dataclass(frozen=True)
class Recorded:
    """One decision as it was rebuilt, with what hangs beside it."""

    decision: Decision
    lesson_uses: tuple[tuple[str, str], ...]
    """lesson and its version's time in ISO form, as stored, in the order of ``seq``"""
    known_items: Collection[str] | None
    """ids of the catalogue; None where there is none to compare with"""


Finding = tuple[str, str, str]
"""table, key and what is wrong"""
DecisionCheck = Callable[[Recorded], Iterator[Finding]]
TableCheck = Callable[[Connection], Iterator[Finding]]

DECISION_CHECKS: dict[str, DecisionCheck] = {}
TABLE_CHECKS: dict[str, TableCheck] = {}


def decision_check(name: str) -> Callable[[DecisionCheck], DecisionCheck]:
    """Register a check of one decision under ``name``."""

    def register(check: DecisionCheck) -> DecisionCheck:
        DECISION_CHECKS[name] = check
        return check

    return register


def table_check(name: str) -> Callable[[TableCheck], TableCheck]:
    """Register a check that asks the whole database; it streams what it finds."""

    def register(check: TableCheck) -> TableCheck:
        TABLE_CHECKS[name] = check
        return check

    return register
