"""From rows of reports to outcomes in the memory; what cannot be one is set aside with its reason, and stops nobody else.

Five hundred rows are one transaction: outcomes and dead letters of a killed command are both there, or both are not, and
the same command goes on, since a report that is known already changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from rolegen_errors import InputError
from rolegen_graphs.reports import SHAPE, OutcomeReport, net_outcome, parse_report
from rolegen_graphs.words import Outcome

from ..memory.records import DeadLetter, Span

if TYPE_CHECKING:
    from ..memory import Memory

CHUNK = 500
"""rows of one transaction"""
ID_CHARACTERS, LISTED, PAYLOAD_CHARACTERS, REASON_CHARACTERS = 1000, 100, 4000, 500
"""bounds of what a dead letter keeps"""


class Row(NamedTuple):
    """One report as it came, or why it could not even be read."""

    source: str
    number: int
    given: Mapping[str, object] | None
    problem: str = ""


@dataclass
class FeedbackReport:
    """What became of reported rows: ``rows = recorded + unchanged + late + dead``."""

    source: str
    rows: int = 0
    recorded: int = 0
    """new, or other than what was known"""
    unchanged: int = 0
    """known already"""
    late: int = 0
    """something that was known holds against them"""
    dead: int = 0
    """set aside as dead letters"""
    reasons: list[str] = field(default_factory=list)
    """of the first dead ones"""

    def raise_for_dead(self) -> None:
        """``InputError`` if a row was set aside."""
        if self.dead:
            raise InputError(
                f"{self.dead:,} of {self.rows:,} reports could not be recorded; the first: {self.reasons[0]}",
                where=self.source,
                fix="they are kept: `rolegen feedback dead-letters` lists them, `rolegen feedback retry` tries them again",
            )


def record_rows(
    memory: Memory,
    rows: Iterable[Row],
    source: str,
    *,
    now: datetime | None = None,
    progress: Callable[[int], None] = lambda done: None,
    retried: Mapping[tuple[str, int, str], str] | None = None,
) -> FeedbackReport:
    """Record reports; see the module.

    Args:
        source: what the report of this call is about; each row carries its own.
        now: until when "no order" may have been seen where a report does not say; the present by default.
        progress: told the number of rows done.
        retried: letters by (source, row, payload) that are dropped once their row is recorded.
    """
    report, when, left = FeedbackReport(source), now or datetime.now(UTC), iter(rows)
    while chunk := list(islice(left, CHUNK)):
        _record(memory, chunk, report, when, retried or {})
        progress(report.rows)
    return report


def retry_letters(memory: Memory, *, progress: Callable[[int], None] = lambda done: None) -> FeedbackReport:
    """Try dead letters again, those that were kept whole; what now is an outcome is dropped from them."""
    letters = [letter for letter in memory.dead_letters() if letter.complete]
    retried = {(letter.source, letter.row, letter.payload): letter.letter for letter in letters}
    rows = (Row(letter.source, letter.row, json.loads(letter.payload)) for letter in letters)
    return record_rows(memory, rows, "dead letters", progress=progress, retried=retried)


def row_of(number: int, given: Outcome | OutcomeReport | Mapping[str, object], source: str) -> Row:
    """A row from what a program holds."""
    if isinstance(given, Outcome | OutcomeReport):
        return Row(source, number, {name: value for name, value in given.model_dump().items() if value is not None})
    if not isinstance(given, Mapping):
        return Row(source, number, None, f"a {type(given).__name__} is no report")
    return Row(source, number, given)


def _record(
    memory: Memory,
    rows: list[Row],
    report: FeedbackReport,
    now: datetime,
    retried: Mapping[tuple[str, int, str], str],
) -> None:
    parsed: list[OutcomeReport | str] = [_parsed(row) for row in rows]
    good = [one for one in parsed if isinstance(one, OutcomeReport)]
    spans = memory.spans(
        decisions=(one.decision for one in good if one.decision is not None),
        users=(one.user for one in good if one.decision is None),
    )
    of_user: dict[str, list[Span]] = {}
    for span in spans:
        of_user.setdefault(span.user, []).append(span)
    by_id = {span.decision: span for span in spans}
    outcomes: list[Outcome] = []
    owners: list[int] = []
    letters: dict[int, DeadLetter] = {}
    for place, (row, one) in enumerate(zip(rows, parsed, strict=True)):
        reason = one if isinstance(one, str) else ""
        if isinstance(one, OutcomeReport):
            try:
                found = [
                    net_outcome(one, span.decision, span.at, span.horizon_end, now)
                    for span in _meant(one, by_id, of_user)
                ]
                outcomes += found
                owners += [place] * len(found)
            except InputError as error:
                reason = error.what
        if reason:
            letters[place] = _letter(row, reason)
    solved = [retried[_key(row)] for place, row in enumerate(rows) if retried and place not in letters]
    fates: dict[int, set[str]] = {}
    for place, fate in zip(owners, memory.settle(outcomes, letters.values(), solved), strict=True):
        fates.setdefault(place, set()).add(fate)
    report.rows += len(rows)
    report.dead += len(letters)
    report.reasons += [letter.reason for letter in letters.values()][: 10 - len(report.reasons)]
    for became in fates.values():
        report.recorded += "new" in became
        report.unchanged += "new" not in became and "same" in became
        report.late += became == {"late"}


def _parsed(row: Row) -> OutcomeReport | str:
    if row.given is None:
        return row.problem
    try:
        return parse_report(row.given)
    except InputError as error:
        return error.what


def _meant(one: OutcomeReport, by_id: Mapping[str, Span], of_user: Mapping[str, list[Span]]) -> Iterator[Span]:
    """The decisions that a report is about: the named one, or the latest whose horizon holds the order (one for each run
    that decided at that time, for nothing says which of them was shown)."""
    if one.decision is not None:
        span = by_id.get(one.decision)
        if span is None:
            raise InputError("the decision is not in memory", fix="record it first, or check the database")
        if span.user != one.user:
            raise InputError("the decision is on another user", fix="report an outcome under the user of its decision")
        yield span
        return
    if one.ordered_at is None:
        raise InputError("neither a decision nor the time of an order", fix=SHAPE)
    when = one.ordered_at
    holding = [span for span in of_user.get(one.user, []) if span.at <= when < span.horizon_end]
    if not holding:
        known = "no decision whose horizon holds the order" if one.user in of_user else "no decision"
        raise InputError(f"there is {known} on this user", fix="awaken the user first, or name the decision")
    latest = max(span.at for span in holding)
    yield from (span for span in holding if span.at == latest)


def _letter(row: Row, reason: str) -> DeadLetter:
    payload, complete = _payload(row.given)
    given, source = row.given or {}, row.source[-ID_CHARACTERS:]
    return DeadLetter(
        letter=hashlib.sha256(
            json.dumps([source, row.number, payload if row.given is not None else reason]).encode("ascii")
        ).hexdigest()[:32],
        source=source,
        row=row.number,
        reason=reason[:REASON_CHARACTERS],
        payload=payload,
        complete=complete,
        user=_id(given.get("user")),
        decision=_id(given.get("decision")),
    )


def _key(row: Row) -> tuple[str, int, str]:
    return row.source, row.number, _payload(row.given)[0]


def _id(value: object) -> str | None:
    return str(value)[:ID_CHARACTERS] if isinstance(value, str | int) and not isinstance(value, bool) else None


def _payload(given: Mapping[str, object] | None) -> tuple[str, bool]:
    """Known fields as JSON, bounded; fields that a report does not have may hold anything, also what must not be kept."""
    if given is None:
        return "", False
    kept: dict[str, object] = {}
    complete = True
    for name in OutcomeReport.model_fields:
        if name in given:
            kept[name], whole = _bounded(given[name])
            complete &= whole
    text = json.dumps(kept, ensure_ascii=False)
    if len(text) > PAYLOAD_CHARACTERS:
        few = {name: kept[name] for name in ("user", "decision") if name in kept}
        text, complete = json.dumps(few, ensure_ascii=False), False
    return text, complete and set(given) <= set(OutcomeReport.model_fields)


def _bounded(value: object) -> tuple[object, bool]:
    if isinstance(value, datetime):
        return value.isoformat(), True
    if isinstance(value, str):
        return value[:ID_CHARACTERS], len(value) <= ID_CHARACTERS
    if value is None or isinstance(value, bool | int):
        return value, True
    if isinstance(value, float):
        return str(value), True  # NaN and infinity are no JSON
    if isinstance(value, list | tuple):
        parts = [_bounded(one) for one in value[:LISTED] if not isinstance(one, list | tuple | dict)]
        return [part for part, _ in parts], len(parts) == len(value) and all(whole for _, whole in parts)
    return None, False
