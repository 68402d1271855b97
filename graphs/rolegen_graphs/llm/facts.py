"""Fact checks: what a schema cannot say. Each check returns every violation as a sentence that the model can act on.

A violation is never repaired silently here: it goes to the repair round, and after that the answer is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from rolegen_prompts import inline

from ..words import Event, Role, Trajectory
from .answers import (
    IntentAnswer,
    LearnAnswer,
    PathAnswer,
    ReasonAnswer,
    ReflectAnswer,
    ReviseAnswer,
    RevisedSpecAnswer,
    SimulateAnswer,
    SpecAnswer,
)
from .categories import Offer

CLOSING: tuple[Role, ...] = ("target", "complement", "replenishment", "gateway")
"""roles whose item is bought: one of them ends a path"""
_INERT: tuple[Role, ...] = ("incidental", "unresolved")

_WORD = re.compile(r"[^\s,;:()\"']+")


def of_lessons(answer: LearnAnswer, *, rows: int) -> list[str]:
    """Lessons speak of rows that were shown, of each at most once, and say something."""
    found: list[str] = []
    for row, times in Counter(one.number for one in answer.lessons).items():
        if not 1 <= row <= rows:
            found.append(f"lessons: there is no row {row}; rows 1 to {rows} were shown")
        if times > 1:
            found.append(f"lessons: row {row} has {times} lessons, each row may have one")
    found += [f"lessons.{i}.text: is empty" for i, one in enumerate(answer.lessons) if not one.text]
    return found


class Facts:
    """The facts of one decision that an answer must agree with.

    Args:
        trajectory: what the decision may see.
        shown: numbers of the events that the prompt showed; no other may be cited.
        offer: the categories that may be named.
    """

    def __init__(self, trajectory: Trajectory, shown: Collection[int], offer: Offer) -> None:
        self._events: dict[int, Event] = {n: e for n, e in enumerate(trajectory.events, start=1) if n in shown}
        self._offer = offer
        # Short or purely alphabetic ids are ordinary words or numbers ("set of 12"); the others are never prose.
        self._item_ids = {e.item for e in trajectory.events if len(e.item) >= 4 and any(c.isdigit() for c in e.item)}

    def of_reading(self, answer: ReasonAnswer, *, most: int) -> list[str]:
        """Events exist and are labelled once, evidence exists and is not later, categories were offered."""
        found: list[str] = []
        if len(answer.labels) > most:
            found.append(f"labels: {len(answer.labels)} given, at most {most} are allowed")
        for event, times in Counter(label.event for label in answer.labels).items():
            if times > 1:
                found.append(f"labels: event {event} is labelled {times} times, each event may have one label")
        for i, label in enumerate(answer.labels):
            at = f"labels.{i}"
            event_seen = self._events.get(label.event)
            if event_seen is None:
                found.append(f"{at}.event: no event with id {label.event} was shown")
            for evidence in label.evidence:
                seen = self._events.get(evidence)
                if seen is None:
                    found.append(f"{at}.evidence: no event with id {evidence} was shown")
                elif event_seen is not None and seen.at > event_seen.at:
                    found.append(f"{at}.evidence: event {evidence} lies after event {label.event}")
            found += self._intent(label.intent_before, f"{at}.intent_before")
            found += self._intent(label.intent_after, f"{at}.intent_after")
        return found + self._intent(answer.intent, "intent")

    def of_paths(self, answer: SimulateAnswer, *, asked: int) -> list[str]:
        """The right number of sound paths that differ in mechanism."""
        found: list[str] = []
        fewest = (asked + 1) // 2  # a few good paths are better than padding
        if not fewest <= len(answer.paths) <= asked:
            found.append(f"paths: {len(answer.paths)} given, {asked} were asked for")
        for i, path in enumerate(answer.paths):
            found += self._path(path, f"paths.{i}")
        return found + self._collapse(answer.paths)

    def of_revisions(self, answer: ReviseAnswer, *, asked: int) -> list[str]:
        """Every number once, and sound specs."""
        found: list[str] = []
        numbers = [revision.number for revision in answer.revisions]
        if sorted(numbers) != list(range(1, asked + 1)):
            found.append(f"revisions: numbers {numbers[:20]} given, each of 1 to {asked} is needed exactly once")
        for i, revision in enumerate(answer.revisions):
            if revision.spec is not None:
                found += self._spec(revision.spec, f"revisions.{i}.spec")
        return found

    def of_reflection(self, answer: ReflectAnswer, *, paths: Collection[int]) -> list[str]:
        """Corrections speak of paths and events that exist."""
        found: list[str] = []
        for i, one in enumerate(answer.corrections):
            if one.path is not None and one.path not in paths:
                found.append(f"corrections.{i}.path: there is no path {one.path}")
            if one.event is not None and one.event not in self._events:
                found.append(f"corrections.{i}.event: no event with id {one.event} was shown")
            if one.kind == "wrong_role" and one.event is None:
                found.append(f"corrections.{i}.event: wrong_role must name the event")
        return found

    def _intent(self, intent: IntentAnswer, at: str) -> list[str]:
        return self._category(intent.category, f"{at}.category")

    def _category(self, category: str | None, at: str) -> list[str]:
        if category is None or category in self._offer:
            return []
        return [f"{at}: '{inline(category)}' is not in the list of categories; copy a name from it, or null"]

    def _spec(self, spec: SpecAnswer | RevisedSpecAnswer, at: str) -> list[str]:
        found = self._category(spec.category, f"{at}.category")
        if spec.price_low is not None and spec.price_high is not None and spec.price_low > spec.price_high:
            found.append(f"{at}: price_low {spec.price_low:g} is above price_high {spec.price_high:g}")
        if not spec.text:
            found.append(f"{at}.text: is empty; describe the item")
        for word in _WORD.findall(spec.text):
            if word in self._item_ids:
                found.append(f"{at}.text: names the item number '{inline(word)}'; describe a kind of item instead")
        return found

    def _path(self, path: PathAnswer, at: str) -> list[str]:
        found: list[str] = []
        if path.operation == "insert":
            if path.replaces is not None:
                found.append(f"{at}.replaces: an insertion replaces nothing; must be null")
        elif path.replaces is None:
            found.append(f"{at}.replaces: operation '{path.operation}' must name an event")
        elif path.replaces not in self._events:
            found.append(f"{at}.replaces: no event with id {path.replaces} was shown")
        if path.operation == "remove" and not path.steps:
            found.append(f"{at}.steps: a removal needs at least one step")
        specs = (path.intervention, *path.steps)
        for step, spec in enumerate(specs):
            place = f"{at}.intervention" if step == 0 else f"{at}.steps.{step - 1}"
            found += self._spec(spec, place)
            removed = step == 0 and path.operation == "remove"
            if spec.role == "unresolved" or (spec.role in _INERT and not removed):
                found.append(f"{place}.role: '{spec.role}' moves nobody; choose the role that the item would play")
        if specs[-1].role not in CLOSING:
            found.append(f"{at}: the last spec has role '{specs[-1].role}', it must be one of {', '.join(CLOSING)}")
        return found

    def _collapse(self, paths: Sequence[PathAnswer]) -> list[str]:
        found: list[str] = []
        first: dict[tuple[str | None, ...], int] = {}
        for i, path in enumerate(paths):
            last = (path.intervention, *path.steps)[-1]
            key = (path.operation, path.intervention.role, path.intervention.category, last.category)
            if key in first:
                found.append(f"paths.{i}: same operation, role and category as paths.{first[key]}; vary the mechanism")
            first.setdefault(key, i)
        if len(paths) >= 3:
            if len({path.intervention.role for path in paths}) < 2:
                found.append("paths: all interventions have the same role; vary the roles")
            named = {spec.category for path in paths for spec in (path.intervention, *path.steps)}
            if len(self._offer) >= 2 and len(named) < 2:
                found.append("paths: all specs name the same category; vary the categories")
        return found
