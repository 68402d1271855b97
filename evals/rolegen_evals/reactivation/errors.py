"""What is missed: the share of bought items that stood in the slate, by kind of customer and of item.

A share over all bought items of a group, not a mean over customers, so that large baskets count by their size; it is
therefore lower than recall@10, which a slate of ten can reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .judge import TaskSlates
from .protocol import Case, Past, Shop


@dataclass(frozen=True)
class Bought:
    """One bought item of one case, with what is known of customer and item before the date."""

    key: str
    item: str
    orders: int
    gap: int
    repeat: bool
    decile: int
    """popularity in the 91 days before: 1 the tenth that sold most, 10 the least; 0 not sold in them"""


@dataclass(frozen=True)
class Group:
    """One row: bought items of this kind, and the share that each system showed."""

    kind: str
    label: str
    bought: int
    found: Mapping[str, float]


def bought_items(shop: Shop) -> list[Bought]:
    """All target items of all cases."""
    return [
        one for at in shop.period.dates for one in _of_date(shop.past(at), [c for c in shop.cases.cases if c.at == at])
    ]


def _of_date(past: Past, cases: Sequence[Case]) -> list[Bought]:
    sold = past.sold(91)
    place = np.argsort(np.argsort(-sold, kind="stable"))
    decile = np.where(sold > 0, 1 + place * 10 // max(1, int((sold > 0).sum())), 0)
    decile_of = dict(zip(past.ids.tolist(), decile.tolist(), strict=True))
    days = past.baskets.day
    found = []
    for case, row in zip(cases, past.rows([case.user for case in cases]), strict=True):
        own = days[past.baskets.user == row]
        found += [
            Bought(
                key=case.key,
                item=item,
                orders=len(own),
                gap=past.day - int(own[-1]),
                repeat=item not in case.new,
                decile=decile_of.get(item, -1),
            )
            for item in sorted(case.basket)
        ]
    return found


_KINDS: Mapping[str, Sequence[tuple[str, Callable[[Bought], bool]]]] = {
    "orders of the customer": (
        ("1", lambda b: b.orders == 1),
        ("2 to 3", lambda b: 2 <= b.orders <= 3),
        ("4 to 9", lambda b: 4 <= b.orders <= 9),
        ("10 or more", lambda b: b.orders >= 10),
    ),
    "days of silence": (
        ("90 to 119", lambda b: b.gap < 120),
        ("120 to 179", lambda b: 120 <= b.gap < 180),
        ("180 to 364", lambda b: 180 <= b.gap < 365),
        ("a year or more", lambda b: b.gap >= 365),
    ),
    "item for the customer": (("bought before", lambda b: b.repeat), ("new", lambda b: not b.repeat)),
    "sales of the item in 91 days": (
        ("best tenth", lambda b: b.decile == 1),
        ("2nd and 3rd tenth", lambda b: b.decile in (2, 3)),
        ("4th and 5th tenth", lambda b: b.decile in (4, 5)),
        ("lower half", lambda b: b.decile >= 6),
        ("not sold in them", lambda b: b.decile == 0),
        ("never sold before", lambda b: b.decile == -1),
    ),
}


def errors(shop: Shop, runs: Mapping[str, Sequence[TaskSlates]]) -> list[Group]:
    """One row for each group that has any bought item; shares are means over a system's seeds."""
    items = bought_items(shop)
    hit = {
        name: np.mean([[one.item in run["all"][one.key] for one in items] for run in seeds], axis=0)
        for name, seeds in runs.items()
    }
    groups = []
    for kind, parts in _KINDS.items():
        for label, holds in parts:
            mask = np.array([holds(one) for one in items], bool)
            if mask.any():
                found = {name: float(values[mask].mean()) for name, values in hit.items()}
                groups.append(Group(kind, label, int(mask.sum()), found))
    return groups
