"""Outcomes from where the shop keeps them: a class of its own behind the port ``OutcomeSource``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from rolegen_errors import InputError, ProjectError, RoleGenError
from rolegen_graphs.ports import OutcomeSource

from ..plugins import load_named
from .recording import FeedbackReport, Row, record_rows, row_of

if TYPE_CHECKING:
    from ..memory import Memory
    from ..settings import PartsSettings

FIX = "[parts] outcomes: write module:attribute of something with `reports(since)`, or the name of an installed entry point"


def open_source(settings: PartsSettings) -> OutcomeSource:
    """The source that ``[parts] outcomes`` names; a class or function is called without arguments.

    Raises:
        ProjectError: it names none, or something that gives no reports.
    """
    if settings.outcomes is None:
        raise ProjectError("the project names no outcome source", fix=FIX)
    found = load_named(settings.outcomes, group="rolegen.outcomes", what="outcome source", fix=FIX)
    source = found if hasattr(found, "reports") and not isinstance(found, type) else found()
    if not hasattr(source, "reports"):
        raise ProjectError(f"{settings.outcomes!r} gives a {type(source).__name__}, which has no `reports`", fix=FIX)
    given: OutcomeSource = source
    return given


def record_from_source(
    memory: Memory,
    source: OutcomeSource,
    *,
    since: datetime | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> FeedbackReport:
    """Record what ``source`` tells; telling it twice changes nothing.

    Args:
        since: None asks from the first decision on, before which nothing can count.

    Raises:
        InputError: the source broke off; what it told before is recorded.
    """
    name, begin = type(source).__name__, since or memory.first_decision_at()
    if begin is None:
        return FeedbackReport(name)  # no decision, so nothing that an order could belong to
    return record_rows(memory, _rows(source, name, begin), name, progress=progress)


def _rows(source: OutcomeSource, name: str, since: datetime) -> Iterator[Row]:
    number = 0
    try:
        for number, given in enumerate(source.reports(since), start=1):
            yield row_of(number, given, name)
    except RoleGenError:
        raise
    except Exception as error:
        raise InputError(
            f"the outcome source broke off after {number:,} reports: {error}",
            where=name,
            fix="what it told before is recorded; the same command goes on",
        ) from error
