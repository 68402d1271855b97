"""Reading told events: each row is checked by itself, and what is refused is said with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from rolegen_errors import InputError

from ..memory import ToldEvent
from ..memory.told import told_key
from .words import EventSeen, EventTold, Refused

FURTHEST = timedelta(days=1)
"""ahead of the server's clock; a time further ahead is a mistake, such as a zone that was left out or milliseconds as seconds"""
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
MOST_SAID = 20
"""refusals and unknown items that a report names"""


def read_told(rows: Sequence[object], clock: datetime) -> tuple[list[ToldEvent], list[Refused]]:
    """The events of ``rows`` that are understood, and why the others are not."""
    told, refused = [], []
    for number, row in enumerate(rows):
        try:
            told.append(_told(EventTold.model_validate(row), clock))
        except ValidationError as error:
            refused.append(Refused(row=number, why=_why(error)))
        except InputError as error:
            refused.append(Refused(row=number, why=error.what))
    return told, refused


def seen_now(user: str, rows: Sequence[EventSeen | Mapping[str, object]], at: datetime) -> list[ToldEvent]:
    """Events that came with a request at ``at``, in order of time.

    Raises:
        InputError: one is not understood, or not before the request.
    """
    seen = []
    for number, row in enumerate(rows):
        try:
            one = row if isinstance(row, EventSeen) else EventSeen.model_validate(row)
        except ValidationError as error:
            raise InputError(f"event {number} is not understood: {_why(error)}", fix="see /openapi.json") from error
        # What comes with a request has happened before it; the model counts in seconds.
        when = at - timedelta(seconds=1) if one.time is None else one.time.astimezone(UTC)
        if when >= at:
            raise InputError(
                f"event {number} is at {when.isoformat()}, which is not before the request at {at.isoformat()}",
                fix="send what has happened, or leave out its time",
            )
        seen.append(
            ToldEvent(
                told="",
                user=user,
                at=when,
                item=one.item,
                behaviour=one.behaviour,
                quantity=one.quantity,
                price=one.price,
                session=one.session,
            )
        )
    return sorted(seen, key=lambda one: one.at)


def _told(row: EventTold, clock: datetime) -> ToldEvent:
    at = row.time.astimezone(UTC)
    if at > clock + FURTHEST:
        raise InputError(f"its time {at.isoformat()} lies more than a day ahead of the server's clock")
    if at < EARLIEST:
        raise InputError(f"its time {at.isoformat()} lies before {EARLIEST.date()}")
    return ToldEvent(
        told=told_key(row.user, at, row.item, row.behaviour, session=row.session, event_id=row.id),
        user=row.user,
        at=at,
        item=row.item,
        behaviour=row.behaviour,
        quantity=row.quantity,
        price=row.price,
        session=row.session,
        event_id=row.id,
    )


def _why(error: ValidationError) -> str:
    """The first problem, with where it is and without what was sent."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:80]
    return f"{where}: {first['msg'][:200]}" if where else str(first["msg"])[:200]
