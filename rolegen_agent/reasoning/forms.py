"""The forms in which a teacher proposes paths: what a student's outputs stand for.

Paths of one kind (or, where the teacher has no kinds, of one role of the intervention) are one form; the second of a kind in one
decision is another, since it gets the second best. A form has three slots for items: the intervention, the steps between, the last step.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import median

from rolegen_graphs.words import Path, Record, Role

SLOTS = 3
"""of a form: intervention, steps between, last step"""
MOST_FORMS = 16
RARE = 0.005
"""share of decisions below which a form is no form"""


class Form(Record):
    """How paths of one form look."""

    name: str
    roles: tuple[Role, Role, Role]
    """of the items in its slots, the commonest of each"""
    kind: str | None
    """as the teacher called it; None where it has no names for kinds"""
    steps: int
    """after the intervention, the median"""
    category: bool
    """whether its specs name a category, mostly"""
    low: float | None
    """lower end of the price band as a share of the item's price, the median; None where specs mostly have none"""
    high: float | None
    share: float
    """of the decisions, that have it"""


def named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Each insertion with the name of its form, in order. What replaces or removes an event belongs to one
    history, and what a candidate source put forward is not the teacher's: these have none."""
    seen: Counter[str] = Counter()
    found = []
    for path in paths:
        if path.operation != "insert" or path.source is not None:
            continue
        name = path.kind or path.intervention.role
        seen[name] += 1
        found.append((name if seen[name] == 1 else f"{name} {seen[name]}", path))
    return found


def slot_of(step: int, steps: int) -> int:
    """The slot of a step of a path with ``steps`` after the intervention, which is step 0."""
    return 0 if step == 0 else SLOTS - 1 if step == steps else 1


def forms_of(decisions: Sequence[Sequence[Path]], price: Sequence[dict[tuple[int, int], float]]) -> list[Form]:
    """The commonest forms of some decisions' paths, the commonest first.

    Args:
        price: for each decision, the price of the item in each (path number, step) that was grounded.
    """
    often: Counter[str] = Counter()
    members: dict[str, list[tuple[Path, dict[tuple[int, int], float]]]] = defaultdict(list)
    for paths, known in zip(decisions, price, strict=True):
        for name, path in named(paths):
            often[name] += 1
            members[name].append((path, known))
    least = RARE * len(decisions)
    names = [name for name, count in sorted(often.items(), key=lambda one: (-one[1], one[0])) if count > least]
    return [_form(name, members[name], often[name] / len(decisions)) for name in names[:MOST_FORMS]]


def _form(name: str, members: Sequence[tuple[Path, dict[tuple[int, int], float]]], share: float) -> Form:
    roles: list[Counter[Role]] = [Counter() for _ in range(SLOTS)]
    categories: list[bool] = []
    lows: list[float] = []
    highs: list[float] = []
    specs = 0
    for path, known in members:
        for step, spec in enumerate(path.specs()):
            roles[slot_of(step, len(path.steps))][spec.role] += 1
            categories.append(spec.category is not None)
            specs += 1
            paid = known.get((path.path, step), 0.0)
            if paid > 0 and spec.price_low is not None and spec.price_high is not None:
                lows.append(spec.price_low / paid)
                highs.append(spec.price_high / paid)
    opener = _commonest(roles[0], "target")
    banded = 2 * len(lows) > specs
    return Form(
        name=name,
        roles=(opener, _commonest(roles[1], opener), _commonest(roles[2], "target")),
        kind=members[0][0].kind,
        steps=round(median(len(path.steps) for path, _ in members)),
        category=2 * sum(categories) > len(categories),
        low=round(median(lows), 4) if banded else None,
        high=round(median(highs), 4) if banded else None,
        share=round(share, 4),
    )


def _commonest(roles: Counter[Role], otherwise: Role) -> Role:
    return min(roles, key=lambda role: (-roles[role], role), default=otherwise)
