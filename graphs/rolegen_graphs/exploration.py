"""Sampled slates: places are drawn with known probabilities, so that a log of them can tell what other slates would have brought.

Plackett-Luce without replacement (Luce 1959; Plackett 1975): of the items that may stand at a place, the one with rank r in the list
without chance is drawn with a probability proportional to ``r ** (-1 / temperature)``. Ranks and not scores, so that it
means the same for every recommender, and a slate without chance is both the likeliest one and the limit at temperature 0.

The rule of ``guard.py`` holds for what is drawn: what only reasoning brought in (at most as many items as the guard let
in) may not stand in the upper half. It is left out of the list that those places are drawn from, so that every recorded
probability is exact. Items further down in the list without reasoning may come up anywhere: nobody's prose put them there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from .guard import half
from .words import Draw, Slate, SlateItem

LONGER = 3
"""places are drawn from a list so many times as long as the slate"""


def drawn(slate: Slate, baseline: Slate, longer: Slate, *, temperature: float, key: str) -> Slate:
    """A slate of the same size, drawn from ``slate`` followed by what ``longer`` has beyond it.

    Args:
        slate: what would be shown without chance, within the guard's rule.
        baseline: the slate without reasoning; items of ``slate`` that it lacks are for the lower half alone.
        longer: the list without reasoning that ``baseline`` is the beginning of.
        temperature: above 0; at 1 the first place keeps its item in about 1 of 4 slates of ten, at 0.5 in 5 of 8.
        key: the decision's id. Equal keys draw equal slates, so that a resumed decision shows what it had shown.
    """
    first = {item.item: item for item in slate.items}
    listed = [*slate.items, *(item for item in longer.items if item.item not in first)]
    by_id = {item.item: item for item in listed}
    known = {item.item for item in baseline.items}
    draw = Draw(
        temperature=temperature,
        items=tuple(by_id),
        late=tuple(item for item in first if item not in known),
    )
    rank_of = {item: rank for rank, item in enumerate(draw.items, start=1)}
    dice = random.Random(f"slate of {key}")
    placed: list[SlateItem] = []
    for place in range(1, len(slate.items) + 1):
        chance = chances(draw, [item.item for item in placed], len(slate.items))
        item = _pick(chance, dice.random())
        placed.append(
            by_id[item].model_copy(
                update={"rank": place, "propensity": chance[item], "drawn_from": rank_of[item]},
            )
        )
    return slate.model_copy(update={"items": tuple(placed), "draw": draw})


def chances(draw: Draw, above: Sequence[str], size: int) -> dict[str, float]:
    """Probability of every item that may stand next, in the order of the list; they add up to 1.

    Args:
        above: ids at the places above, from the first on.
        size: places of the slate.
    """
    taken, late = set(above), set(draw.late)
    left = [(item, rank) for rank, item in enumerate(draw.items, start=1) if item not in taken]
    if len(above) < half(size):
        left = [(item, rank) for item, rank in left if item not in late] or left  # a shelf may be too short to wait
    if not left:
        return {}
    best = left[0][1]
    weight = [math.exp((math.log(best) - math.log(rank)) / draw.temperature) for _, rank in left]
    total = sum(weight)
    return {item: w / total for (item, _), w in zip(left, weight, strict=True) if w > 0}


def redrawn(slate: Slate) -> list[float]:
    """What the propensities of a sampled slate must be, derived again from its list; 0 for what could not stand there."""
    if slate.draw is None:
        return []
    ids = [item.item for item in slate.items]
    return [chances(slate.draw, ids[:place], len(ids)).get(item, 0.0) for place, item in enumerate(ids)]


def _pick(chance: dict[str, float], uniform: float) -> str:
    item = ""
    for item, p in chance.items():  # noqa: B007 - the last one stands where rounding leaves a little over
        uniform -= p
        if uniform < 0:
            break
    return item
