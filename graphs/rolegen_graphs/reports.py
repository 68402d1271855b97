"""What a shop reports of a user after a decision, and what becomes of it: the net outcome, and which of two outcomes holds.

A report is the state of one order as far as the reporter knew, not a step of it: a refund is a report of the same order with
``refunded_at``. So reports may come late, twice and in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, ConfigDict, Field, ValidationError, model_validator

from rolegen_errors import InputError

from .words import Outcome, Record

SHAPE = "give user, and decision or ordered_at; further " + (
    "items, value, refunded_at, refunded_items, final, known_at, engaged; times as 2011-10-03T10:00:00+00:00"
)
SHOWN = 3
"""complaints about one report that are told"""
Id = Annotated[str, Field(min_length=1, max_length=1000)]


class OutcomeReport(Record):
    """One row of an outcome file, one call of the tool, or one resumed wait. Times need a zone."""

    # A program that knows ids as numbers means their digits.
    model_config = ConfigDict(hide_input_in_errors=True, coerce_numbers_to_str=True)

    user: Id
    decision: Id | None = None
    """None: the latest decision on the user whose horizon holds ``ordered_at``"""
    ordered_at: AwareDatetime | None = None
    """None: no order"""
    items: Annotated[tuple[Id, ...], Field(max_length=10_000)] = ()
    """what was ordered"""
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """what was paid and not given back, in the log's currency"""
    refunded_at: AwareDatetime | None = None
    """when the order was given back: whole, or ``refunded_items`` of it"""
    refunded_items: Annotated[tuple[Id, ...], Field(max_length=10_000)] = ()
    final: bool | None = None
    """None: an order is; "no order" is once the horizon has ended"""
    known_at: AwareDatetime | None = None
    """up to when the reporter knew what happened"""
    engaged: Annotated[tuple[Id, ...], Field(max_length=10_000)] | None = None
    """items looked at, put into the cart or ordered since the decision; None where nobody watched"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ordered_at is None and (self.items or self.value):
            raise ValueError("items or value without ordered_at: say when it was ordered")
        if self.refunded_at is None and self.refunded_items:
            raise ValueError("refunded_items without refunded_at: say when they were given back")
        if self.refunded_at is not None and self.ordered_at is not None and self.refunded_at < self.ordered_at:
            raise ValueError("refunded_at lies before ordered_at")
        if set(self.refunded_items) - set(self.items):
            raise ValueError("refunded_items names items that are not in items")
        return self


def parse_report(given: Mapping[str, object]) -> OutcomeReport:
    """A report from outside.

    Raises:
        InputError: it is none; the message names fields, never values.
    """
    try:
        return OutcomeReport.model_validate(given)
    except ValidationError as error:
        found = [
            f"{'.'.join(str(part) for part in one['loc']) or 'report'}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise InputError(f"no report of an outcome: {'; '.join(found[:SHOWN])[:500]}{more}", fix=SHAPE) from None


def net_outcome(report: OutcomeReport, decision: str, at: datetime, horizon_end: datetime, now: datetime) -> Outcome:
    """What a report means for a decision with the horizon [``at``, ``horizon_end``).

    A whole refund, whenever it came, leaves no net order; one of some items leaves the others, with ``value`` as reported.

    Raises:
        InputError: the order lies outside the horizon, or "no order" is called final before the horizon has ended.
    """
    where = f"outcome of decision {decision}"
    if report.ordered_at is not None and not at <= report.ordered_at < horizon_end:
        raise InputError(
            f"the order at {report.ordered_at.isoformat()} lies outside the horizon from {at.isoformat()} to"
            f" {horizon_end.isoformat()}",
            where=where,
            fix="report orders within the horizon only, or record the decision with the right horizon_days",
        )
    kept = tuple(item for item in dict.fromkeys(report.items) if item not in set(report.refunded_items))
    undone = report.refunded_at is not None and (not report.refunded_items or not kept)
    ordered_at = None if undone else report.ordered_at
    known_at = report.known_at or report.refunded_at
    if ordered_at is None and report.final and report.known_at is not None and report.known_at < horizon_end:
        raise InputError(
            f"'no order' is called final at {report.known_at.isoformat()}, before the horizon ends at"
            f" {horizon_end.isoformat()}",
            where=where,
            fix="leave `final` out, or report again after the horizon",
        )
    return Outcome(
        decision=decision,
        user=report.user,
        ordered_at=ordered_at,
        items=() if undone else kept,
        value=0.0 if undone else report.value,
        final=report.final if report.final is not None else ordered_at is not None or (known_at or now) >= horizon_end,
        known_at=known_at,
        refunded_at=report.refunded_at if undone else None,
        engaged=None if report.engaged is None else tuple(dict.fromkeys(report.engaged)),
    )


def supersedes(new: Outcome, old: Outcome) -> bool:
    """Whether ``new`` takes the place of ``old`` for the same decision.

    What was known later holds; of two that knew as much, a final one. Where one of them does not say, an order does not undo
    its refund, a refund undoes its order, silence does not undo an order, and what is provisional never replaces what is
    final; otherwise the later report holds.
    """
    if new.known_at is not None and old.known_at is not None:
        if new.known_at != old.known_at:
            return new.known_at > old.known_at
        return new.final or not old.final
    if _undoes(old, new):
        return False
    if _undoes(new, old):
        return True
    if new.known_at is not None and new.ordered_at is None and old.ordered_at is not None:
        return False
    return new.final or not old.final


def _undoes(one: Outcome, other: Outcome) -> bool:
    return one.refunded_at is not None and other.ordered_at is not None and other.ordered_at <= one.refunded_at
