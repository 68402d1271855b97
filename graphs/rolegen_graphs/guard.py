"""A bound on what reasoning can do to a slate, whoever reasons and whatever the recommender has learnt to believe.

The recommender learns how far to trust candidates, and a model that has seen few of them may trust too much. So of the items that
it would not have shown without reasoning only a few come in, and none stands in the first half. An LLM that a title or a lesson
has turned can then at worst put these few at the end.
"""

from __future__ import annotations

from .words import Slate, SlateItem


def guarded(slate: Slate, alone: Slate, newcomers: int) -> Slate:
    """``slate`` with at most ``newcomers`` items that ``alone`` lacks, all in its lower half; freed places go to ``alone``'s next ones.

    Scores stay what the recommender said: a newcomer's may be above those before it, and what comes from ``alone`` has its score there.

    Args:
        alone: the same recommender's slate without reasoning.
    """
    size, known = len(slate.items), {item.item for item in alone.items}
    new = [item for item in slate.items if item.item not in known]
    if len(new) <= newcomers and all(item.rank > half(size) for item in new):
        return slate
    let_in = {item.item for item in new[:newcomers]}
    old = [item for item in slate.items if item.item in known]
    shown = {item.item for item in old}
    old += [item for item in alone.items if item.item not in shown]
    placed: list[SlateItem] = []
    waiting = [item for item in slate.items if item.item in let_in]
    while len(placed) < size and (old or waiting):
        place, left = len(placed) + 1, size - len(placed)
        due = place > half(size) and bool(waiting) and (waiting[0].rank <= place or left <= len(waiting))
        placed.append((waiting if due or not old else old).pop(0))
    items = tuple(item.model_copy(update={"rank": rank}) for rank, item in enumerate(placed, start=1))
    return slate.model_copy(update={"items": items})


def half(size: int) -> int:
    """Places of the upper half, the middle one included."""
    return (size + 1) // 2
