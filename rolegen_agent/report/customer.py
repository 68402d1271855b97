"""One customer's section of the report, digested from a decision and its outcome into what a person reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeVar

from rolegen_graphs.words import (
    Attribution,
    Candidate,
    Decision,
    Effect,
    Fate,
    Intent,
    ItemSpec,
    Outcome,
    Path,
    Role,
    Round,
    Slate,
    Statistic,
)

from .reasons import choice_words, credit_words, lesson_words, parts_words, wish_words
from .text import bounded

T = TypeVar("T")
Return = Literal["back", "away", "open", "unknown"]

_MOMENTS = 8  # the latest labelled events; those left out are counted in the section
_BOUGHT = 12
_TITLE, _SENTENCE, _ID = 80, 200, 60  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One labelled event of the trajectory."""

    at: datetime
    behaviour: str
    title: str
    role: Role
    confidence: float
    intent: str
    evidence: str
    parts: str
    """both sides of a fused label"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One wish of a path and the catalogue item that it became, or the reason why it became none."""

    role: Role
    wish: str
    fate: Fate
    title: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PathSection:
    """One counterfactual path; ``steps[0]`` is the intervention."""

    number: int
    operation: str
    steps: tuple[Step, ...]
    effect: Effect | None
    why: str
    choice: str
    """whether the path was used, and why"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """One item of a slate. ``fresh``: the slate without reasoning lacks it. ``hit``: it was bought afterwards."""

    title: str
    role: Role | None
    path: int | None
    parts: str
    fresh: bool
    hit: bool
    showing: float | None
    """change of the chance of an order by showing it; None where nothing is known of it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bought:
    """One item of the first net order within the horizon; ``hit``: the slate showed it."""

    title: str
    hit: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CustomerSection:
    """All that the report says about one decision. Texts are bounded and clean, but not escaped."""

    user: str
    at: datetime
    cohort: str
    why_dormant: str
    days_since_last: float
    orders: int
    events: int
    moments: tuple[Moment, ...]
    moments_left_out: int
    intent: str
    need: str
    paths: tuple[PathSection, ...]
    slate: tuple[Shown, ...]
    slate_without: tuple[Shown, ...]
    outcome: Return
    ordered_at: datetime | None
    bought: tuple[Bought, ...]
    bought_left_out: int
    value: float
    hits: int
    credits: tuple[str, ...]
    """what the order is owed to"""
    reasoner: str
    rounds: int
    thinking: str
    """why an LLM was asked, or was not; empty where there is none"""
    lessons: tuple[str, ...]
    """what earlier outcomes taught, as this decision was told"""
    remarks: tuple[str, ...]
    fates: Mapping[Fate, int]
    roles: Mapping[Role, int]


def customer_section(
    decision: Decision,
    outcome: Outcome | None,
    titles: Mapping[str, str] | None = None,
    credit: Sequence[Attribution] = (),
) -> CustomerSection:
    """Digest ``decision`` and what came of it.

    Args:
        decision: a finished decision.
        outcome: what the user then did; None when nothing is known yet.
        titles: catalogue titles by item id, for bought items that the decision does not mention; the id otherwise.
        credit: what the order is owed to, as far as that was attributed.
    """
    seen = decision.observation.trajectory
    last = decision.rounds[-1] if decision.rounds else None
    bought = outcome.items if outcome else ()
    known = {
        **{event.item: event.title for event in seen.events},
        **{item.item: item.title for item in (*decision.slate_without_reasoning.items, *decision.slate.items)},
    }
    names = {item: (titles or {}).get(item) or known.get(item) or item for item in bought}
    shown = {item.item for item in decision.slate.items}
    plain = {item.item for item in decision.slate_without_reasoning.items}
    if decision.slate.draw is not None:  # what chance brought up, reasoning did not
        plain |= set(decision.slate.draw.items) - set(decision.slate.draw.late)
    moments = _moments(decision, last) if last else ()
    return CustomerSection(
        user=bounded(decision.user, _ID),
        at=decision.at,
        cohort=bounded(seen.cohort, _TITLE),
        why_dormant=bounded(seen.dormant_because, _SENTENCE),
        days_since_last=seen.days_since_last,
        orders=seen.orders,
        events=seen.total_events,
        moments=moments[-_MOMENTS:],
        moments_left_out=len(last.reading.labels) - len(moments[-_MOMENTS:]) if last else 0,
        intent=_intent(last.reading.intent) if last else "unknown",
        need=bounded(last.reading.intent.need, _SENTENCE) if last else "",
        paths=tuple(_path(path, last) for path in last.paths) if last else (),
        slate=_shown(decision.slate, fresh_without=plain, bought=set(bought)),
        slate_without=_shown(decision.slate_without_reasoning, fresh_without=plain, bought=set(bought)),
        outcome=_outcome(outcome),
        ordered_at=outcome.ordered_at if outcome else None,
        bought=tuple(
            Bought(title=bounded(names[item], _TITLE), hit=item in shown)
            for item in sorted(bought, key=lambda item: item not in shown)[:_BOUGHT]
        ),
        bought_left_out=max(0, len(bought) - _BOUGHT),
        value=outcome.value if outcome else 0.0,
        hits=len(shown & set(bought)),
        credits=credit_words(credit, {**known, **(titles or {})}),
        reasoner=bounded(decision.reasoner, _TITLE),
        rounds=len(decision.rounds),
        thinking=bounded(decision.worth.why, _SENTENCE) if decision.worth else "",
        lessons=lesson_words(decision.observation),
        remarks=_remarks(decision),
        fates=_count(candidate.fate for candidate in last.candidates) if last else {},
        roles=_count(label.role for label in last.reading.labels) if last else {},
    )


def _moments(decision: Decision, last: Round) -> tuple[Moment, ...]:
    events = {event.event: event for event in decision.observation.trajectory.events}
    found = []
    for label in last.reading.labels:
        event = events.get(label.event)
        if event is None:  # not among the events that the trajectory carries; counted as left out
            continue
        evidence = _statistic(label.statistic) if label.statistic else ""
        found.append(
            Moment(
                at=event.at,
                behaviour=event.behaviour,
                title=bounded(event.title or event.item, _TITLE),
                role=label.role,
                confidence=label.confidence,
                intent=_turn(label.intent_before, label.intent_after),
                evidence=bounded(label.why, _SENTENCE) if label.why else evidence,
                parts=parts_words(label),
            )
        )
    return tuple(sorted(found, key=lambda moment: moment.at))


def _statistic(found: Statistic) -> str:
    name = found.name.replace("_", " ")
    kind = ", effect" if found.kind == "dr" else ""  # the page says that all others are associations
    return f"{name} {found.value:.2f} [{found.low:.2f}, {found.high:.2f}] of {found.support:,}{kind}"


def _intent(intent: Intent) -> str:
    stage = "no active need" if intent.stage == "none" else intent.stage
    return f"{stage}, {bounded(intent.category, _TITLE)}" if intent.category else stage


def _turn(before: Intent, after: Intent) -> str:
    if before == after:
        return ""
    return f"{_intent(before)} → {_intent(after)}"


def _path(path: Path, last: Round) -> PathSection:
    candidates = {candidate.step: candidate for candidate in last.candidates if candidate.path == path.path}
    effects = [effect for effect in last.effects if effect.path == path.path]
    return PathSection(
        number=path.path,
        operation=path.operation,
        steps=tuple(_step(spec, candidates.get(number)) for number, spec in enumerate(path.specs())),
        effect=effects[0] if effects else None,
        why=bounded(path.why, _SENTENCE),
        choice=next((choice_words(choice) for choice in last.choices if choice.path == path.path), ""),
    )


def _step(spec: ItemSpec, candidate: Candidate | None) -> Step:
    if candidate is None:
        return Step(role=spec.role, wish=wish_words(spec), fate="rejected", title="", reason="was not grounded")
    reason = bounded(candidate.reason, _SENTENCE)
    return Step(
        role=spec.role,
        wish=wish_words(candidate.spec),
        fate=candidate.fate,
        title=bounded(candidate.title or candidate.item or "", _TITLE),
        reason=f"revised once; {reason}" if candidate.revised else reason,
    )


def _shown(slate: Slate, *, fresh_without: set[str], bought: set[str]) -> tuple[Shown, ...]:
    return tuple(
        Shown(
            title=bounded(item.title or item.item, _TITLE),
            role=item.role,
            path=item.path,
            parts=bounded(" ".join(f"{name} {_short(part)}" for name, part in item.parts.items()), _SENTENCE),
            fresh=item.item not in fresh_without,
            hit=item.item in bought,
            showing=item.showing or None,
        )
        for item in slate.items
    )


def _short(part: float) -> str:
    """Two decimals without a leading zero: thousands of these stand in one page."""
    return f"{part:.2f}".replace("0.", ".", 1) if abs(part) < 1 else f"{part:.2f}"


def _outcome(outcome: Outcome | None) -> Return:
    if outcome is None:
        return "unknown"
    if outcome.ordered_at is not None:
        return "back"
    return "away" if outcome.final else "open"


def _remarks(decision: Decision) -> tuple[str, ...]:
    """What the loop found amiss, and what each round set out to do better, in the order in which it happened."""
    found: list[str] = []
    for one in decision.rounds:
        head = f"Round {one.number}: " if len(decision.rounds) > 1 else ""
        found += [head + bounded(signal.detail, _SENTENCE) for signal in one.signals]
        found += [
            f"{head}corrected ({correction.kind.replace('_', ' ')}): {bounded(correction.detail, _SENTENCE)}"
            for correction in one.reflection.corrections
        ]
        found += [
            f"{head}{answer.node} was answered by {bounded(answer.reasoner, _TITLE)}: {bounded(answer.why, _SENTENCE)}"
            for answer in one.answers
            if answer.why and answer.reasoner != decision.reasoner
        ]
    return tuple(found)


def _count(values: Iterable[T]) -> dict[T, int]:
    return dict(Counter(values))
