"""What a role student counts before a decision: how each event was met and what followed it, and how near each item lies.

The encoder was trained to say what is ordered next, so what decides a role (was it shown or looked up, did the need go on,
was anything bought) is only faintly in its states. It is counted here, from rows strictly before the decision, as plain numbers:
thresholds are the student's to learn. Times are log days, :data:`NEVER` where there is nothing to count from.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .events import BEHAVIOURS, DAY, ORDER, EventLog, Floats, Ints

VISIT: Final = 6 * 3600
"""seconds: events so close together are one visit"""
LONGEST: Final = 160
"""latest rows of a user that are looked at"""
NEVER: Final = 6.0
"""log days: more than a year"""
EXPOSE, VIEW, CART = (BEHAVIOURS.index(name) for name in ("expose", "view", "cart"))

EVENT_FACTS: Final = (
    *(f"is_{name}" for name in BEHAVIOURS),
    "shown_in_visit",
    "own_accord",
    "bought_in_visit",
    "goes_on",
    "since_any",
    "since_category",
    "run_items",
    "run_cart",
    "run_satisfied",
    "own_step_follows",
    "own_step_in_category",
    "own_step_elsewhere",
    "until_own_step",
    "until_category",
    "times_bought_before",
    "since_bought",
    "orders_before",
    "last_order_elsewhere",
    "since_order",
    "until_order",
    "cheaper_bought_later",
    "price_quantile",
    "before_decision",
    "times_met",
)
ITEM_FACTS: Final = (
    "looked_at",
    "since_looked_at",
    "shown",
    "category_share",
    "since_category",
    "category_is_last",
    "category_is_last_but_one",
    "category_satisfied",
    "category_looks_since_order",
    "category_cart_since_order",
    "category_orders",
    "category_ordered_last",
    "price_quantile",
)
TRAIL_FACTS: Final = ("events", "since_any", "since_order", "satisfied", "carted", "looks_since_order", "categories")
"""of the user as a whole, beside the backbone's own facts"""


@dataclass(frozen=True)
class Shelf:
    """What is known of I items without any user."""

    category: Ints
    """(I,) dense code"""
    quantile: Floats
    """(I,) place of the price among those of its category, in [0, 1]; 1/2 where there is no price"""

    @classmethod
    def of(cls, category: npt.NDArray[np.str_], price: Floats) -> Shelf:
        """From names and prices (I,), NaN where unknown."""
        _, code = np.unique(category, return_inverse=True)
        quantile = np.full(len(price), 0.5, np.float32)
        for one in range(int(code.max(initial=-1)) + 1):
            rows = np.flatnonzero((code == one) & np.isfinite(price))
            if len(rows) > 1:
                quantile[rows] = np.argsort(np.argsort(price[rows], kind="stable")) / (len(rows) - 1)
        return cls(code.astype(np.int64), quantile)


@dataclass(frozen=True)
class Trail:
    """The latest T rows of one user before a decision, in time order."""

    item: Ints
    behaviour: Ints
    time: Ints
    event: Ints
    category: Ints
    at: int
    """Unix second of the decision"""

    @classmethod
    def of(cls, log: EventLog, shelf: Shelf, user: int, at: int) -> Trail:
        rows = log.rows(user, at)
        rows = slice(max(rows.start, rows.stop - LONGEST), rows.stop)
        item = log.item[rows]
        return cls(item, log.behaviour[rows], log.time[rows], log.event[rows], shelf.category[item], at)

    def __len__(self) -> int:
        return len(self.item)

    @property
    def engaged(self) -> npt.NDArray[np.bool_]:
        """(T,) looks, carts and orders."""
        return (self.behaviour >= VIEW) & (self.behaviour <= ORDER)


def days(seconds: float) -> float:
    """Log days, at most :data:`NEVER`."""
    return min(float(np.log1p(max(seconds, 0) / DAY)), NEVER)


def event_facts(trail: Trail, shelf: Shelf) -> Floats:
    """(T, len(EVENT_FACTS)) of every row of the trail; what followed counts as far as it had happened by the decision."""
    T = len(trail)
    found = np.zeros((T, len(EVENT_FACTS)), np.float32)
    if not T:
        return found
    item, kind, time, category = (x.tolist() for x in (trail.item, trail.behaviour, trail.time, trail.category))
    engaged = trail.engaged.tolist()
    asked = _asked(item, kind, time)
    ahead = _ahead(item, kind, time, category, engaged, asked, shelf)
    own = [e and not a for e, a in zip(engaged, asked, strict=True)]
    last_any = last_order = -1
    last_in: dict[int, int] = {}
    orders: list[int] = []
    bought: dict[int, list[int]] = {}
    met: dict[int, int] = {}
    run: set[int] = set()
    run_category, run_cart, run_done = -1, False, False
    for k in range(T):
        i, c, t = item[k], category[k], time[k]
        earlier = [other for other in bought.get(i, ()) if t - other > VISIT]
        before = last_in.get(c)
        goes_on = run_category == c
        row = [float(kind[k] == one) for one in range(len(BEHAVIOURS))]
        row += [
            float(asked[k]),
            float(own[k]),
            ahead.bought[k],
            float(goes_on),
            days(t - time[last_any]) if last_any >= 0 else NEVER,
            days(t - time[before]) if before is not None else NEVER,
            float(np.log1p(len(run))) if goes_on else 0.0,
            float(goes_on and run_cart),
            float(goes_on and run_done),
            *ahead.step[k],
            ahead.again[k],
            float(np.log1p(len(earlier))),
            days(t - earlier[-1]) if earlier else NEVER,
            float(np.log1p(len(orders))),
            float(last_order >= 0 and category[last_order] != c),
            days(t - time[last_order]) if last_order >= 0 else NEVER,
            ahead.order[k],
            ahead.cheaper[k],
            float(shelf.quantile[i]),
            days(trail.at - t),
            float(np.log1p(met.get(i, 0))),
        ]
        found[k] = row
        met[i] = met.get(i, 0) + 1
        if engaged[k]:
            if not goes_on or run_done:
                run, run_cart, run_done = set(), False, False
            run.add(i)
            run_category, run_cart = c, run_cart or kind[k] == CART
            run_done = kind[k] == ORDER
            last_any, last_in[c] = k, k
            if kind[k] == ORDER:
                last_order = k
                orders.append(t)
                bought.setdefault(i, []).append(t)
    return found


@dataclass(frozen=True)
class _Ahead:
    """What followed each of T rows."""

    bought: list[float]
    step: list[list[float]]
    """whether a step of the user's own followed at a later visit, in the category, elsewhere, and after how long"""
    again: list[float]
    """log days until something of the category at a later visit"""
    order: list[float]
    cheaper: list[float]


def _ahead(
    item: list[int],
    kind: list[int],
    time: list[int],
    category: list[int],
    engaged: list[bool],
    asked: list[bool],
    shelf: Shelf,
) -> _Ahead:
    T = len(item)
    found = _Ahead([0.0] * T, [[0.0, 0.0, 0.0, NEVER]] * T, [NEVER] * T, [NEVER] * T, [0.0] * T)
    rows = [k for k in range(T) if engaged[k]]
    for k in range(T):
        step = again = order = False
        for j in rows[bisect_right(rows, k) :]:
            gap, same = time[j] - time[k], category[j] == category[k]
            if kind[j] == ORDER:
                if gap <= VISIT and item[j] == item[k]:
                    found.bought[k] = 1.0
                if same and item[j] != item[k] and shelf.quantile[item[j]] < shelf.quantile[item[k]]:
                    found.cheaper[k] = 1.0
                if not order:
                    found.order[k], order = days(gap), True
            if gap > VISIT:
                if same and not again:
                    found.again[k], again = days(gap), True
                if not step and not asked[j]:
                    found.step[k], step = [1.0, float(same), float(not same), days(gap)], True
    return found


def _asked(item: list[int], kind: list[int], time: list[int]) -> list[bool]:
    """Which rows answer a showing of their item in the same visit."""
    shown: dict[int, int] = {}
    found = []
    for i, b, t in zip(item, kind, time, strict=True):
        found.append(b != EXPOSE and i in shown and t - shown[i] <= VISIT)
        if b == EXPOSE:
            shown[i] = t
    return found


def item_facts(trail: Trail, shelf: Shelf, pool: Ints) -> Floats:
    """(P, len(ITEM_FACTS)) how near each item of ``pool`` (P,) lies to what the user did."""
    items, C = len(shelf.category), int(shelf.category.max(initial=-1)) + 1
    looked, shown = np.zeros((2, items), np.float32)
    since_item = np.full(items, NEVER, np.float32)
    share, since, satisfied = np.zeros(C, np.float32), np.full(C, NEVER, np.float32), np.zeros(C, np.float32)
    looks, cart, orders = np.zeros(C, np.float32), np.zeros(C, np.float32), np.zeros(C, np.float32)
    recent: list[int] = []
    ordered_last = -1
    total = max(int(trail.engaged.sum()), 1)
    for i, b, t, c in zip(
        trail.item.tolist(), trail.behaviour.tolist(), trail.time.tolist(), trail.category.tolist(), strict=True
    ):
        if b == EXPOSE:
            shown[i] += 1
        elif b <= ORDER:
            share[c] += 1 / total
            since[c] = days(trail.at - t)
            recent = [one for one in recent if one != c] + [c]
            satisfied[c] = float(b == ORDER)
            if b == ORDER:
                orders[c] += 1
                looks[c], cart[c], ordered_last = 0.0, 0.0, c
            else:
                looked[i] += 1
                since_item[i] = days(trail.at - t)
                looks[c] += 1
                cart[c] = max(cart[c], float(b == CART))
    of = shelf.category[pool]
    columns = [
        np.log1p(looked[pool]),
        since_item[pool],
        np.log1p(shown[pool]),
        share[of],
        since[of],
        of == (recent[-1] if recent else -1),
        of == (recent[-2] if len(recent) > 1 else -1),
        satisfied[of],
        np.log1p(looks[of]),
        cart[of],
        np.log1p(orders[of]),
        of == ordered_last,
        shelf.quantile[pool],
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def trail_facts(trail: Trail) -> Floats:
    """(len(TRAIL_FACTS),)"""
    engaged, ordered = trail.engaged, trail.behaviour == ORDER
    last_order = int(np.flatnonzero(ordered)[-1]) if ordered.any() else -1
    last = int(np.flatnonzero(engaged)[-1]) if engaged.any() else -1
    after = slice(last_order + 1, None)
    facts = [
        np.log1p(len(trail)),
        days(trail.at - trail.time[last]) if last >= 0 else NEVER,
        days(trail.at - trail.time[last_order]) if last_order >= 0 else NEVER,
        float(last >= 0 and last == last_order),
        float((trail.behaviour[after] == CART).any()),
        np.log1p(int(engaged[after].sum())),
        np.log1p(len(np.unique(trail.category[engaged]))),
    ]
    return np.array(facts, np.float32)


def looked_at(trail: Trail, most: int) -> Ints:
    """Distinct items that the user engaged with, latest first, at most ``most``."""
    latest: Ints = np.fromiter(dict.fromkeys(trail.item[trail.engaged][::-1].tolist()), np.int64)
    return latest[:most]


def latest_categories(trail: Trail, most: int) -> list[int]:
    """Distinct categories that the user engaged with, latest first, at most ``most``."""
    return list(dict.fromkeys(trail.category[trail.engaged][::-1].tolist()))[:most]
