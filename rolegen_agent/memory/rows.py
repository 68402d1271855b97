"""How the words of the loop lie in the tables: decisions to rows, and rows back to equal decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from rolegen_errors import FutureError, InputError
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Decision,
    Effect,
    LlmCall,
    Path,
    PathChoice,
    Reading,
    Record,
    Reflection,
    RoleLabel,
    Round,
    Signal,
    Slate,
    SlateItem,
)

from . import models

OWN_POLICIES = ("rolegen", "backbone")
"""slates that belong to a recorded decision: its answer, and the backbone's without reasoning"""

Values = dict[str, Any]
Word = TypeVar("Word", bound=Record)


class Part(NamedTuple):
    """One tuple of words inside a round, and its table."""

    name: str
    row: type[models.Base]
    word: type[Record]


PARTS: tuple[Part, ...] = (
    Part("labels", models.RoleLabelRow, RoleLabel),
    Part("paths", models.PathRow, Path),
    Part("candidates", models.CandidateRow, Candidate),
    Part("effects", models.EffectRow, Effect),
    Part("choices", models.PathChoiceRow, PathChoice),
    Part("signals", models.SignalRow, Signal),
    Part("corrections", models.CorrectionRow, Correction),
)


def fields_of(word: Record) -> Values:
    """The fields of a word by name, with words inside it left as they are: the column types serialise those."""
    return {name: getattr(word, name) for name in type(word).model_fields}


def check(decision: Decision) -> None:
    """Raise ``FutureError`` if the decision saw its own future, ``InputError`` if it cannot be stored faithfully."""
    at, where = decision.at, f"decision {decision.decision}"
    seen = decision.observation
    times: list[tuple[str, datetime]] = [("the decision", at), ("the trajectory", seen.trajectory.at)]
    events = [(f"event {event.event}", event.at) for event in seen.trajectory.events]
    lessons = [(f"lesson {lesson.lesson}", lesson.learnt_at) for lesson in seen.lessons]
    past = [(f"past decision {earlier.decision}", earlier.at) for earlier in seen.past]
    for name, time in (*times, *events, *lessons, *past):
        if time.tzinfo is None:
            raise InputError(f"the time of {name} has no time zone", where=where, fix="pass aware datetimes")
    for name, time in (*events, *lessons, *past):
        if time >= at:
            raise FutureError(
                f"{name} is from {time.isoformat()}, not before the decision at {at.isoformat()}",
                where=where,
                fix="show a decision only what lies strictly before it",
            )
    if seen.trajectory.user != decision.user or seen.trajectory.at != at:
        raise InputError(
            f"the observation is of user {seen.trajectory.user!r} at {seen.trajectory.at.isoformat()}, the decision of"
            f" {decision.user!r} at {at.isoformat()}",
            where=where,
            fix="record a decision with its own observation",
        )
    numbers = [each.number for each in decision.rounds]
    if numbers != sorted(set(numbers)):
        raise InputError(f"round numbers must rise, got {numbers}", where=where, fix="number the rounds 1, 2, …")


def decision_values(decision: Decision, horizon_days: float, now: datetime) -> Values:
    return {
        "decision": decision.decision,
        "run": decision.run,
        "user_id": decision.user,
        "at": decision.at,
        "horizon_end": decision.at + timedelta(days=horizon_days),
        "reasoner": decision.reasoner,
        "observation": decision.observation,
        "worth": decision.worth,
        "recorded_at": now,
    }


def round_values(decision: Decision) -> list[Values]:
    return [
        {
            "decision": decision.decision,
            "round": each.number,
            "intent": each.reading.intent,
            "slate": each.slate,
            "lessons": each.reflection.lessons,
            "answers": each.answers,
        }
        for each in decision.rounds
    ]


def part_values(decision: Decision) -> list[tuple[type[models.Base], list[Values]]]:
    """For each table below a round, the rows of all rounds; tables without rows are left out."""
    tables = []
    for part in PARTS:
        rows = [
            {"decision": decision.decision, "round": each.number, "seq": seq, **fields_of(word)}
            for each in decision.rounds
            for seq, word in enumerate(_words(each, part.name))
        ]
        if rows:
            tables.append((part.row, rows))
    return tables


def _words(each: Round, part: str) -> Sequence[Record]:
    owner = {"labels": each.reading, "corrections": each.reflection}.get(part, each)
    words: Sequence[Record] = getattr(owner, part)
    return words


def lesson_use_values(decision: Decision) -> list[Values]:
    return [
        {"decision": decision.decision, "seq": seq, "lesson": lesson.lesson, "learnt_at": lesson.learnt_at}
        for seq, lesson in enumerate(decision.observation.lessons)
    ]


def slate_values(slates: Iterable[tuple[str, str, Slate]]) -> tuple[list[Values], list[Values]]:
    """Rows of ``slates`` and of ``slate_items`` for (decision, policy, slate)."""
    heads: list[Values] = []
    items: list[Values] = []
    for decision, policy, slate in slates:
        heads.append({"decision": decision, "policy": policy, "entropy": slate.entropy, "draw": slate.draw})
        items += [
            {"decision": decision, "policy": policy, "seq": seq, **fields_of(item)}
            for seq, item in enumerate(slate.items)
        ]
    return heads, items


def call_values(call: LlmCall) -> Values:
    return {**fields_of(call.site), **{name: value for name, value in fields_of(call).items() if name != "site"}}


def to_word(word: type[Word], row: Mapping[Any, Any]) -> Word:
    """A word from a row whose columns are its fields; key columns that are no field are left out."""
    return word(**{name: row[name] for name in word.model_fields})


def to_call(row: Mapping[Any, Any]) -> LlmCall:
    return LlmCall(site=to_word(CallSite, row), **{name: row[name] for name in LlmCall.model_fields if name != "site"})


def to_slate(row: Mapping[Any, Any], items: Iterable[Mapping[Any, Any]]) -> Slate:
    return Slate(items=tuple(to_word(SlateItem, item) for item in items), entropy=row["entropy"], draw=row["draw"])


def to_round(row: Mapping[Any, Any], parts: Mapping[str, Sequence[Any]]) -> Round:
    """A round from its row and, by part name, the words that hang below it."""
    return Round(
        number=row["round"],
        reading=Reading(labels=tuple(parts["labels"]), intent=row["intent"]),
        paths=tuple(parts["paths"]),
        candidates=tuple(parts["candidates"]),
        effects=tuple(parts["effects"]),
        choices=tuple(parts["choices"]),
        slate=row["slate"],
        signals=tuple(parts["signals"]),
        reflection=Reflection(corrections=tuple(parts["corrections"]), lessons=row["lessons"]),
        answers=row["answers"],
    )
