"""The same history told again: what must not change the roles that a reasoner sees in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from rolegen_graphs.words import Event, Observation


def repeated(seen: Observation) -> Observation:
    """Word for word the same."""
    return seen


def reordered(seen: Observation) -> Observation:
    """Events of one moment in one visit the other way round; their times stay, so that nothing follows what caused it."""
    visits = [list(group) for _, group in groupby(seen.trajectory.events, key=lambda event: (event.at, event.session))]
    return _with(seen, tuple(event for visit in visits for event in reversed(visit)))


def paraphrased(seen: Observation) -> Observation:
    """Titles in small letters with their last word first: ``RED RETROSPOT BAG`` becomes ``bag, red retrospot``."""
    return _with(
        seen, tuple(event.model_copy(update={"title": _reworded(event.title)}) for event in seen.trajectory.events)
    )


RETELLINGS: Mapping[str, Callable[[Observation], Observation]] = {
    "repeat": repeated,
    "order": reordered,
    "paraphrase": paraphrased,
}


def _reworded(title: str) -> str:
    words = title.lower().split()
    return f"{words[-1]}, {' '.join(words[:-1])}" if len(words) > 1 else title.lower()


def _with(seen: Observation, events: tuple[Event, ...]) -> Observation:
    return seen.model_copy(update={"trajectory": seen.trajectory.model_copy(update={"events": events})})
