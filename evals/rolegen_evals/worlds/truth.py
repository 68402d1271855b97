"""The true effects: ``do(show item)`` against ``do(show nothing)``, with the same random numbers for both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rolegen_agent.evidence.effects import OUTCOMES
from rolegen_agent.evidence.states import DECIDING, ELSEWHERE, SATISFIED, STATES

from .goods import PLANTED, Floats, Goods, Ints
from .shop import DRAWS, NOBODY, Crowd, Flags, Shop

_ITEMS = 12
"""items asked about at a time: bounds the memory"""
_SHARE = 0.2
"""of the users of each step that moments are drawn from; the few who are deciding all count"""


def states_towards(category: Ints, stage: Ints, item_category: Ints) -> Ints:
    """Index into ``STATES`` of users with an active need in ``category`` at ``stage`` towards items of a category."""
    needs = (stage > 0) & (stage != SATISFIED)
    return np.where(needs & (category != item_category), ELSEWHERE, stage)


@dataclass
class Futures:
    """What follows a step within the horizon, by user."""

    order: Flags
    """a net order"""
    entry: Flags
    """something else of the item's category is engaged with of the user's own accord, at a later visit"""
    cheaper: Flags
    """a cheaper item of its category is ordered"""
    itself: Flags


@dataclass
class Trail:
    """What was engaged with from a step on, within the horizon: rows of (step, kind, item or -1, not refunded, not shown)."""

    rows: list[tuple[int, str, Ints, Flags, Flags]]

    def futures(self, goods: Goods, focus: Ints, rows: Ints | slice = slice(None)) -> Futures:
        """The outcomes of the items asked about, for some of the users."""
        category, price, users = goods.category[focus], goods.price[focus], len(focus)
        found = Futures(*np.zeros((4, users), bool))
        for number, kind, everything, everyones, all_own in self.rows:
            what, kept, own = everything[rows], everyones[rows], all_own[rows]
            same = (what >= 0) & (goods.category[what] == category)
            if number:
                found.entry |= same & own & (what != focus)
            if kind == "order":
                found.order |= (what >= 0) & kept
                found.itself |= kept & (what == focus)
                found.cheaper |= same & kept & (goods.price[what] < price)
        return found


def follow(shop: Shop, crowd: Crowd, shown: Ints, uniform: list[Floats]) -> Trail:
    """Show ``shown`` now and let the policy go on."""
    crowd = crowd.take(np.arange(len(shown)))
    end, rows, always = crowd.day + shop.horizon_days, [], np.ones(len(shown), bool)
    for number, draws in enumerate(uniform):
        item = shown if number == 0 else shop.show(crowd, draws)[0]
        happened = shop.step(crowd, item, draws)
        within = crowd.day <= end
        for place, (kind, what) in enumerate(shop.trail(item, happened)):
            if number or place > 1:  # what comes before the page is shown is no consequence of it
                kept = ~happened.refunded if place == 4 else always
                rows.append((number, kind, np.where(within, what, NOBODY), kept, what != item))
        crowd.day = crowd.day + shop.gap(draws)
    return Trail(rows)


def true_effects(shop: Shop, *, moments: int = 600, seed: int = 0) -> pl.DataFrame:
    """Effects of every item in every state, averaged over who is in that state under the logging policy.

    Args:
        moments: users drawn for each category and stage of need (and for no need, and for a need just met).

    Returns:
        item, role, state, outcome (order, entry, cheaper, itself), effect, error (standard error), units.
    """
    random = np.random.default_rng([seed, 2])
    crowd, category, stage, weight = _moments(shop, moments, random)
    users, steps, goods = len(stage), int(shop.horizon_days / shop.knobs.pace) + 1, shop.goods
    draws = [random.random((DRAWS, users)) for _ in range(steps)]
    usual = follow(shop, crowd, np.full(users, NOBODY), draws)
    towards = [states_towards(category, stage, np.full(users, c)) for c in range(len(goods.categories))]
    asked = [
        np.concatenate([np.flatnonzero(state != ELSEWHERE), np.flatnonzero(state == ELSEWHERE)[:: len(towards) - 1]])
        for state in towards
    ]
    tables = []
    for low in range(0, len(goods), _ITEMS):
        items = np.arange(low, min(low + _ITEMS, len(goods)))
        rows = np.concatenate([asked[c] for c in goods.category[items]])
        focus = np.repeat(items, [len(asked[c]) for c in goods.category[items]])
        shown = follow(shop, crowd.take(rows), focus, [one[:, rows] for one in draws]).futures(goods, focus)
        natural = usual.futures(goods, focus, rows)
        state = states_towards(category[rows], stage[rows], goods.category[focus])
        for outcome in OUTCOMES:
            gain = getattr(shown, outcome).astype(np.float64) - getattr(natural, outcome)
            tables.append(
                pl.DataFrame({"code": focus, "state": state, "gain": gain, "weight": weight[rows]})
                .with_columns(share=pl.col("weight") / pl.col("weight").sum().over("code", "state"))
                .group_by("code", "state")
                .agg(
                    effect=(pl.col("share") * pl.col("gain")).sum(),
                    error=(pl.col("share") ** 2).sum().sqrt() * pl.col("gain").std(),
                    units=pl.len(),
                )
                .with_columns(outcome=pl.lit(outcome))
            )
    return (
        pl.concat(tables)
        .sort("code", "state", "outcome")
        .select(
            item=pl.col("code").replace_strict(dict(enumerate(goods.ids)), return_dtype=pl.String),
            role=pl.col("code").replace_strict(
                {code: PLANTED[role] for code, role in enumerate(goods.role.tolist())}, return_dtype=pl.String
            ),
            state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String),
            outcome="outcome",
            effect="effect",
            error="error",
            units="units",
        )
    )


def _moments(shop: Shop, quota: int, random: np.random.Generator) -> tuple[Crowd, Ints, Ints, Floats]:
    """Users in the middle of their way, up to ``quota`` for each (category, stage) of their need, and how many each stands for."""
    crowd = shop.newcomers(20 * quota, random)
    found: list[tuple[Crowd, Ints, Ints, Floats]] = []
    while len(crowd.day):
        category, stage = crowd.seen.state(crowd.day, shop.active_days)
        share = np.where(stage == DECIDING, 1.0, _SHARE)
        rows = np.flatnonzero(random.random(len(stage)) < share)
        found.append((crowd.take(rows), category[rows], stage[rows], 1 / share[rows]))
        draws = random.random((DRAWS, len(stage)))
        shop.step(crowd, shop.show(crowd, draws)[0], draws)
        crowd.day = crowd.day + shop.gap(draws)
        crowd = crowd.take(np.flatnonzero(crowd.day <= shop.days - shop.horizon_days))
    category, stage = (np.concatenate([one[k] for one in found]) for k in (1, 2))
    weight = np.concatenate([one[3] for one in found])
    everybody = found[0][0].joined([one[0] for one in found[1:]])
    kind = np.where((stage > 0) & (stage != SATISFIED), stage + 10 * category, stage)
    order = random.permutation(len(kind))
    ordered = order[np.argsort(kind[order], kind="stable")]
    begin = np.r_[True, np.diff(kind[ordered]) != 0]
    number = np.arange(len(ordered)) - np.flatnonzero(begin)[np.cumsum(begin) - 1]
    chosen = np.sort(ordered[number < quota])
    many = np.bincount(kind, weight) / np.maximum(np.bincount(kind[chosen], minlength=int(kind.max()) + 1), 1)
    return everybody.take(chosen), category[chosen], stage[chosen], many[kind[chosen]]
