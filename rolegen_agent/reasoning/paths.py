"""From proposals to counterfactual paths: which kinds, which items, and how each is wished for without naming its id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rolegen_graphs.words import Correction, ItemSpec, Lesson, Path, Role, Statistic, Trajectory

from ..evidence.store import Evidence
from .proposals import (
    BRIDGE,
    COMPLEMENT,
    HABIT,
    KINDS,
    POPULAR,
    REBUY,
    SEASON,
    STEPS,
    VIEWED,
    Kind,
    Proposals,
)

PER_CATEGORY = 3
"""specs of one category in all paths together, once a round has been found too narrow"""
LIKELY = 20
"""of the likeliest items of a kind, those that a path may choose from"""
DISTINCT_ROLES = 2
"""at least so many paths besides the rebuys, where the log offers them: against interest collapse"""


@dataclass(frozen=True)
class Limits:
    """What the corrections of the last round forbid, by path number (= number of the kind)."""

    dropped: frozenset[int]
    due_only: frozenset[int]
    no_price: frozenset[int]
    no_category: frozenset[int]
    spread: bool

    @classmethod
    def of(cls, corrections: Sequence[Correction]) -> Limits:
        def paths(*kinds: str) -> frozenset[int]:
            return frozenset(c.path for c in corrections if c.path is not None and c.kind in kinds)

        return cls(
            dropped=paths("wrong_role", "ungrounded"),
            due_only=paths("too_early"),
            no_price=paths("wrong_price"),
            no_category=paths("wrong_category"),
            spread=any(c.kind == "collapsed" for c in corrections),
        )


@dataclass(frozen=True)
class Advice:
    """What lessons say of kinds and categories: how much the surest one adds to, or takes from, the rate of orders."""

    kinds: Mapping[int, float]
    categories: Mapping[str, float]

    @classmethod
    def of(cls, lessons: Sequence[Lesson]) -> Advice:
        kinds: dict[int, float] = {}
        categories: dict[str, float] = {}
        for lesson in lessons:
            claim, effect = lesson.claim, lesson.effect
            if claim is None or effect is None:
                continue
            bound = max(0.0, effect.low) if claim.direction == "lead" else min(0.0, effect.high)
            if claim.subject == "category":
                categories[claim.value] = max(bound, categories.get(claim.value, 0.0), key=abs)
                continue
            for kind in KINDS:
                if claim.value == (kind.role if claim.subject == "role" else kind.name):
                    kinds[kind.number] = max(bound, kinds.get(kind.number, 0.0), key=abs)
        return cls(kinds, categories)


NO_ADVICE = Advice({}, {})


def build_paths(
    trajectory: Trajectory,
    proposals: Proposals,
    evidence: Evidence,
    limits: Limits,
    count: int,
    advice: Advice = NO_ADVICE,
) -> tuple[Path, ...]:
    """At most ``count`` paths of different kinds, those that lessons say to lead with first, then the likeliest; no item
    stands in two of them. A kind that lessons say to avoid comes last, where nothing else is left."""
    band = _price_band(trajectory)
    taken: set[int] = set()
    used_categories: dict[str, int] = {}
    reached = _Reached(set(), set())
    paths: list[Path] = []
    remaining = [kind for kind in KINDS if kind.number not in limits.dropped]
    while remaining and len(paths) < count:
        choices = [
            (kind, _pick(kind, proposals, limits, taken, used_categories, reached, advice)) for kind in remaining
        ]
        choices = [(kind, rows) for kind, rows in choices if rows]
        rebuys = sum(path.path in (REBUY.number, HABIT.number) for path in paths)
        if rebuys >= max(1, count - DISTINCT_ROLES) or (limits.spread and rebuys):
            new = [choice for choice in choices if choice[0] not in (REBUY, HABIT)]
            choices = new or choices
        if not choices:
            break
        kind, rows = max(
            choices,
            key=lambda choice: (
                advice.kinds.get(choice[0].number, 0.0),
                sum(proposals.chance[choice[1]]),
                -choice[0].number,
            ),
        )
        remaining.remove(kind)
        taken.update(rows)
        reached.opened.add(_category(rows[0], proposals))
        reached.closed.add(_category(rows[-1], proposals))
        for row in rows:
            category = _category(row, proposals)
            used_categories[category] = used_categories.get(category, 0) + 1
        paths.append(_path(kind, rows, trajectory, proposals, evidence, band, limits))
    return tuple(paths)


@dataclass(frozen=True)
class _Reached:
    """Categories that earlier paths begin and end in: a path into another one tells more than one into the same."""

    opened: set[str]
    closed: set[str]


def _pick(
    kind: Kind,
    proposals: Proposals,
    limits: Limits,
    taken: set[int],
    used_categories: dict[str, int],
    reached: _Reached,
    advice: Advice,
) -> list[int]:
    """Rows of one path, the intervention first and the target last, each in a category of its own where a likely one has it."""
    rows: list[int] = []
    counts = dict(used_categories)
    members = proposals.members(kind).tolist()
    if kind.number in limits.due_only:
        due = proposals.members(kind, due_only=True).tolist()
        if due[:LIKELY] == members[:LIKELY]:  # all of it is due, so the path is not too early: it is of no use
            return []
        members = due
    for row in members:
        category = _category(row, proposals)
        if row in taken or (limits.spread and counts.get(category, 0) >= PER_CATEGORY):
            continue
        counts[category] = counts.get(category, 0) + 1
        rows.append(row)
        if len(rows) == LIKELY:
            break
    if not rows:
        return []
    if advice.categories:  # of the likely items those of an advised category come first, and of an avoided one last
        rows.sort(key=lambda row: -advice.categories.get(_category(row, proposals), 0.0))
        kept = [row for row in rows if advice.categories.get(_category(row, proposals), 0.0) >= 0]
        rows = kept or rows
    first = next((row for row in rows if _category(row, proposals) not in reached.opened), rows[0])
    rest = [row for row in rows if row != first]
    if not rest:
        return [first]
    elsewhere = (row for row in rest if _category(row, proposals) not in reached.closed)
    last = next(elsewhere, rest[: STEPS - 1][-1])
    return [first, *[row for row in rest if row != last][: STEPS - 2], last]


def _category(row: int, proposals: Proposals) -> str:
    return proposals.market.category[int(proposals.considered.code[row])]


def _path(
    kind: Kind,
    rows: list[int],
    trajectory: Trajectory,
    proposals: Proposals,
    evidence: Evidence,
    band: tuple[float, float] | None,
    limits: Limits,
) -> Path:
    specs = []
    for step, row in enumerate(rows):
        role: Role = "target" if step and step == len(rows) - 1 else kind.role
        specs.append(_spec(role, row, proposals, band, kind, limits))
    return Path(
        path=kind.number,
        operation="insert",
        intervention=specs[0],
        steps=tuple(specs[1:]),
        why=_why(kind, rows[0], trajectory, proposals, evidence),
        kind=kind.name,
    )


def _spec(
    role: Role, row: int, proposals: Proposals, band: tuple[float, float] | None, kind: Kind, limits: Limits
) -> ItemSpec:
    market = proposals.market
    code = int(proposals.considered.code[row])
    price = float(market.price[code])
    low = high = None
    if kind.number not in limits.no_price and not np.isnan(price):
        around = band or (price * 0.5, price * 1.5)
        low, high = round(min(around[0], price), 2), round(max(around[1], price), 2)
    return ItemSpec(
        role=role,
        category=None if kind.number in limits.no_category else market.category[code],
        price_low=low,
        price_high=high,
        text=market.titles[code],
    )


def _price_band(trajectory: Trajectory) -> tuple[float, float] | None:
    """The 10 % and 90 % quantiles of what the user paid; None for fewer than three prices."""
    paid = [event.price for event in trajectory.events if event.behaviour == "order" and event.price is not None]
    if len(paid) < 3:
        return None
    low, high = np.quantile(np.array(paid), [0.1, 0.9])
    return float(low), float(high)


def _why(kind: Kind, row: int, trajectory: Trajectory, proposals: Proposals, evidence: Evidence) -> str:
    market = proposals.market
    code = int(proposals.considered.code[row])
    item, title = market.items[code], market.titles[code]
    chance = f"{proposals.chance[row]:.0%} to be in the next order if one comes"
    if kind in (REBUY, HABIT):
        days = round(float(np.expm1(proposals.signal(row, "orders"))))
        due = "due by its rebuy interval" if proposals.signal(row, "due") >= 0 else "not yet due by its rebuy interval"
        return f"bought {title} on {days} day{'s' if days != 1 else ''}, {due}; {chance}"
    if kind == COMPLEMENT:
        source, link = strongest_link(trajectory, item, evidence)
        if link is not None:
            return (
                f"{title} is bought with or soon after {source} {link.value:.1f} times as often as by chance "
                f"(at least {link.low:.1f}, {link.support} baskets); {chance}"
            )
    if kind == SEASON:
        peak = float(np.exp(proposals.signal(row, "season_peak")))
        return f"{title} sold {peak:.1f} times its yearly average in these weeks last year; {chance}"
    if kind == BRIDGE:
        source = proposals.bridges[market.category[code]]
        link = evidence.statistic("bridge", source, other=market.category[code])
        lead = f"{market.titles[market.code[source]]} leads into {market.category[code]}"
        often = ""
        if link is not None and link.kind == "dr":
            often = f" {link.value:+.0%} more often than other items do ({link.low:+.0%} to {link.high:+.0%})"
        elif link is not None:
            often = f" {link.value:.1f} times as often as back (at least {link.low:.1f})"
        return f"{lead}{often}, and {title} is what sells there; {chance}"
    if kind == VIEWED:
        return f"looked at {title} and did not buy it; {chance}"
    if kind == POPULAR:
        return f"{title} is among what the shop sells most now; {chance}"
    return f"{title} is new to this user in a favourite category, {market.category[code]}; {chance}"


def strongest_link(trajectory: Trajectory, item: str, evidence: Evidence) -> tuple[str, Statistic | None]:
    """The title of the bought item that ``item`` complements most (by the lower end), and the statistic."""
    best: tuple[str, Statistic | None] = ("", None)
    for title, bought in sorted(
        {(event.title, event.item) for event in trajectory.events if event.behaviour == "order"}
    ):
        found = evidence.statistic("complement", bought, other=item)
        if found is not None and (best[1] is None or found.low > best[1].low):
            best = (title, found)
    return best
