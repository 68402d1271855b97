"""``execute``: the recommender rolls out each path; the best and most diverse ones give their candidates to the slate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..exploration import LONGER, drawn
from ..guard import guarded
from ..parts import LoopSettings, Parts
from ..selection import select_paths
from ..state import DecisionState
from ..words import Candidate, Path
from .reason import time_of


class Execute:
    """Effects come from here and only from here: never from the reasoner's prose."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> DecisionState:
        user, at = state["user"], time_of(state)
        grounded = [c for c in state["candidates"] if c.item is not None]
        steps: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for candidate in grounded:
            if candidate.item is not None:
                steps[candidate.path].append((candidate.step, candidate.item))
        walks = [(path, [item for _, item in sorted(found)]) for path, found in sorted(steps.items())]
        walks, changes = _changed(walks, state["paths"], grounded)
        effects = list(self.parts.recommender.rollout(user, at, walks, changes)) if walks else []
        lessons = state["observation"].lessons
        choices = select_paths(state["paths"], state["candidates"], effects, self.settings.selection, lessons)
        chosen = {choice.path for choice in choices if choice.chosen}
        surviving: list[Candidate] = [c for c in grounded if c.path in chosen]
        slate = state["baseline"]
        if surviving:
            labels, size = state["reading"].labels, self.settings.slate_size
            reasoned = self.parts.recommender.slate(user, at, surviving, size, labels=labels)
            slate = guarded(reasoned, slate, self.settings.newcomers)
        if self.settings.explore > 0:
            longer = self.parts.recommender.slate(user, at, (), LONGER * self.settings.slate_size)
            slate = drawn(slate, state["baseline"], longer, temperature=self.settings.explore, key=state["key"])
        return {"effects": effects, "choices": list(choices), "slate": slate}


def _changed(
    walks: list[tuple[int, list[str]]], paths: Sequence[Path], grounded: Sequence[Candidate]
) -> tuple[list[tuple[int, list[str]]], dict[int, tuple[int, str | None]]]:
    """What paths that replace or remove an event change of the past; a replacing item stands there and is no step."""
    first = {c.path: c.item for c in grounded if c.step == 0}
    changes: dict[int, tuple[int, str | None]] = {}
    for path in paths:
        if path.replaces is not None and path.operation == "remove":
            changes[path.path] = (path.replaces, None)
        elif path.replaces is not None and path.operation == "replace" and path.path in first:
            changes[path.path] = (path.replaces, first[path.path])
    replaced = {number for number, (_, item) in changes.items() if item is not None}
    return [(number, items[1:] if number in replaced else items) for number, items in walks], changes
