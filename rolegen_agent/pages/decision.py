"""One decision: what the user did, what was imagined, what survived, what was shown, what came of it, what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from rolegen_graphs.words import (
    Attribution,
    Candidate,
    Decision,
    Effect,
    Event,
    ItemSpec,
    LlmCall,
    Outcome,
    Path,
    PathChoice,
    RoleLabel,
    Round,
    SlateItem,
)

from ..memory import Memory
from ..memory.browsing import Digest, LessonEvidence
from ..memory.digests import fresh
from ..report.reasons import credit_words
from .site import Site, Titles


def add(app: FastAPI, site: Site) -> None:
    """Its address: ``/decisions/DECISION``."""

    @app.get("/decisions/{key}")
    def decision(request: Request, key: str) -> Response:
        seen = read_decision(site.memory, key, site.titles)
        site.mask.about(seen.decision.user)
        around = site.memory.spans(users=[seen.decision.user])
        keys = [span.decision for span in around]
        place = keys.index(key)
        return site.page(
            request,
            "decision.html.jinja",
            title=f"Why {site.mask.user(seen.decision.user)} got these items",
            seen=seen,
            trace_link=site.trace_link(seen.trace),
            before=keys[place - 1] if place else None,
            after=keys[place + 1] if place + 1 < len(keys) else None,
            others=len(keys) - 1,
        )


def read_decision(memory: Memory, key: str, titles: Titles) -> Seen:
    """A decision with all that the memory holds about it.

    Raises:
        InputError: there is no such decision.
    """
    decision, outcome = memory.get(key), memory.find_outcome(key)
    return Seen(
        decision=decision,
        digest=memory.digest(key),
        trace=memory.trace_of(key),
        outcome=outcome,
        credit=memory.attributions(decision=key),
        calls=memory.calls(decision=key),
        evidence=memory.evidence_from(key),
        catalogue=titles(outcome.items if outcome else ()),
    )


@dataclass(frozen=True)
class Moment:
    """One labelled event, and where it stands on the time line (0 to 1000)."""

    label: RoleLabel
    event: Event | None
    x: float


@dataclass(frozen=True)
class Step:
    """One spec of a path and what became of it; None where it was never grounded."""

    spec: ItemSpec
    found: Candidate | None


@dataclass(frozen=True)
class Branch:
    """One counterfactual path with everything that is known of it."""

    path: Path
    steps: tuple[Step, ...]
    effect: Effect | None
    choice: PathChoice | None
    replaced: Event | None

    @property
    def used(self) -> bool:
        return self.choice is None or self.choice.chosen


@dataclass(frozen=True)
class Place:
    """One item of the slate, and where it would stand without reasoning (None: nowhere)."""

    item: SlateItem
    without: int | None
    fresh: bool
    bought: bool


@dataclass(frozen=True)
class RoundView:
    """One round, and what is other than in the round before."""

    round: Round
    relabelled: tuple[tuple[RoleLabel, str], ...]
    """labels whose role changed, with the role before"""
    entered: tuple[SlateItem, ...]
    left: tuple[SlateItem, ...]
    fates: Mapping[str, int]


@dataclass(frozen=True)
class Call:
    """One LLM call with its messages taken apart."""

    call: LlmCall
    messages: tuple[tuple[str, str], ...]
    """(who, text)"""
    answer: str
    """the raw answer; indented where it is JSON"""


@dataclass(frozen=True)
class Seen:
    """A decision as its page shows it."""

    decision: Decision
    digest: Digest | None
    trace: str | None
    outcome: Outcome | None
    credit: Sequence[Attribution]
    calls: Sequence[LlmCall]
    evidence: Sequence[LessonEvidence]
    catalogue: Mapping[str, str]

    @property
    def key(self) -> str:
        return self.decision.decision

    @cached_property
    def last(self) -> Round | None:
        return self.decision.rounds[-1] if self.decision.rounds else None

    @cached_property
    def events(self) -> dict[int, Event]:
        return {event.event: event for event in self.decision.observation.trajectory.events}

    @cached_property
    def titles(self) -> dict[str, str]:
        """Titles of items: as the decision saw them, else the catalogue's, else the id."""
        found = {event.item: event.title for event in self.events.values()}
        slates = (self.decision.slate_without_reasoning, self.decision.slate)
        found |= {item.item: item.title for slate in slates for item in slate.items}
        bought = self.outcome.items if self.outcome else ()
        found |= {item: self.catalogue.get(item, item) for item in bought if item not in found}
        return {item: title or item for item, title in found.items()}

    @cached_property
    def moments(self) -> tuple[Moment, ...]:
        """Labelled events in order of time."""
        labels = self.last.reading.labels if self.last else ()
        known = [(label, self.events.get(label.event)) for label in labels]
        known.sort(key=lambda one: (one[1].at if one[1] else self.decision.at, one[0].event))
        times = [event.at for _, event in known if event is not None]
        if not times:
            return tuple(Moment(label, event, 0.0) for label, event in known)
        first, whole = times[0], (self.decision.at - times[0]).total_seconds() or 1.0
        return tuple(
            Moment(label, event, 1000 * (event.at - first).total_seconds() / whole if event else 0.0)
            for label, event in known
        )

    @cached_property
    def labelled(self) -> set[int]:
        """Events that have a line on the page, and so an anchor."""
        return {one.label.event for one in self.moments}

    @cached_property
    def telling(self) -> tuple[Moment, ...]:
        """The moments that mean something: those with a role that does something, at most six, the latest."""
        found = [one for one in self.moments if one.label.role not in ("incidental", "unresolved")]
        return tuple((found or list(self.moments))[-6:])

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Paths, the used ones first in the order of their choice."""
        last = self.last
        if last is None:
            return ()
        choices = {one.path: one for one in last.choices}
        effects = {one.path: one for one in last.effects}
        found = {(one.path, one.step): one for one in last.candidates}
        order = sorted(
            last.paths,
            key=lambda path: (choices[path.path].place or 1000) if path.path in choices else 1000,
        )
        return tuple(
            Branch(
                path,
                tuple(Step(spec, found.get((path.path, step))) for step, spec in enumerate(path.specs())),
                effects.get(path.path),
                choices.get(path.path),
                self.events.get(path.replaces) if path.replaces is not None else None,
            )
            for path in order
        )

    @cached_property
    def reach(self) -> float:
        """The greatest effect, or end of an interval, in either direction: the scale of the bars."""
        ends = [abs(end) for one in self.branches if one.effect for end in (one.effect.low, one.effect.high)]
        finite = [end for end in ends if end < 10]
        return max([*finite, 1e-6])

    def across(self, value: float) -> float:
        """Where an effect stands on a bar from 0 to 200."""
        return 100 + 100 * max(-1.0, min(1.0, value / self.reach))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        return self.last.candidates if self.last else ()

    @cached_property
    def rejected(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if one.fate == "rejected")

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """The slate."""
        slate, plain = self.decision.slate, self.decision.slate_without_reasoning
        ranks = {item.item: item.rank for item in plain.items}
        bought = set(self.outcome.items) if self.outcome else set()
        return tuple(
            Place(item, ranks.get(item.item), fresh(item.item, ranks, slate.draw), item.item in bought)
            for item in slate.items
        )

    @cached_property
    def bought(self) -> tuple[tuple[str, bool], ...]:
        """Titles of what was ordered, and whether the slate showed it; those first."""
        shown = {item.item for item in self.decision.slate.items}
        items = self.outcome.items if self.outcome else ()
        return tuple((self.titles[item], item in shown) for item in sorted(items, key=lambda one: one not in shown))

    @cached_property
    def gone(self) -> set[str]:
        """Items that would have been shown without reasoning, and were not."""
        shown = {item.item for item in self.decision.slate.items}
        return {item.item for item in self.decision.slate_without_reasoning.items} - shown

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of scores in their order."""
        return tuple(dict.fromkeys(name for one in self.decision.slate.items for name in one.parts))

    @cached_property
    def widest(self) -> float:
        """The greatest score, to which the bars of all are drawn."""
        return max([sum(p for p in one.parts.values() if p > 0) for one in self.decision.slate.items] or [1.0]) or 1.0

    def bar(self, item: SlateItem) -> list[tuple[int, float, float, str, float]]:
        """The parts of a score as pieces of a bar from 0 to 100: number, start, width, name, value."""
        pieces, start = [], 0.0
        for number, name in enumerate(self.parts):
            value = item.parts.get(name, 0.0)
            width = 100 * max(0.0, value) / self.widest
            pieces.append((number, start, width, name, value))
            start += width
        return pieces

    @cached_property
    def rounds(self) -> tuple[RoundView, ...]:
        return tuple(self._rounds())

    def _rounds(self) -> Iterator[RoundView]:
        before: Round | None = None
        for one in self.decision.rounds:
            old = {label.event: label.role for label in before.reading.labels} if before else {}
            had = {item.item for item in before.slate.items} if before else set()
            has = {item.item for item in one.slate.items}
            fates = {fate: sum(c.fate == fate for c in one.candidates) for fate in ("accepted", "mapped", "rejected")}
            yield RoundView(
                one,
                tuple((x, old[x.event]) for x in one.reading.labels if old.get(x.event, x.role) != x.role),
                tuple(item for item in one.slate.items if before and item.item not in had),
                tuple(item for item in before.slate.items if item.item not in has) if before else (),
                fates,
            )
            before = one

    @cached_property
    def credits(self) -> tuple[str, ...]:
        return credit_words(self.credit, self.titles)

    @cached_property
    def asked(self) -> tuple[Call, ...]:
        """LLM calls in the order in which they were made."""
        return tuple(Call(one, _messages(one.messages), _indented(one.raw)) for one in self.calls)


def _messages(text: str) -> tuple[tuple[str, str], ...]:
    try:
        found = json.loads(text)
        return tuple((str(who), said if isinstance(said, str) else json.dumps(said)) for who, said in map(_pair, found))
    except (ValueError, TypeError, KeyError):
        return (("messages", text),)


def _pair(message: Any) -> tuple[Any, Any]:
    if isinstance(message, dict):
        return message.get("role", message.get("type", "")), message["content"]
    who, said = message
    return who, said


def _indented(raw: str) -> str:
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False) if raw else ""
    except (ValueError, RecursionError):
        return raw
