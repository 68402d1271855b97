"""Static baselines: what a shop would do without us, learnt once from the log before the first round.

Each is a function from settings and that log to a function that gives scores at any later date: what it *learnt* stays as it was, what it
*reads* of a user (their orders, their looks, their state) is of the date. Settings come from a grid of at most six, tried on validation seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from rolegen_agent.evidence.effects import effects
from rolegen_agent.evidence.followed import ordered_within
from rolegen_agent.evidence.states import STATES
from rolegen_errors import MissingExtraError

from ..worlds.goods import Floats, Ints
from .past import Past, best, facts

if TYPE_CHECKING:
    import lightgbm

Answer = Callable[[Past, list[str]], Floats]
"""(a date's past, U users) to scores (U, I), higher is better"""
Fit = Callable[[Mapping[str, Any], Past, int], Answer]
"""(settings, the log to learn from, seed) to what answers"""


@dataclass(frozen=True)
class Baseline:
    """One static policy and the settings that are tried for it."""

    name: str
    fit: Fit
    grid: Sequence[Mapping[str, Any]] = ({},)

    def slates(self, answer: Answer, past: Past, users: list[str], size: int) -> dict[str, list[str]]:
        return best(answer(past, users), past.ids, users, size)


def random(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """Anything."""

    def answer(now: Past, users: list[str]) -> Floats:
        draw = np.random.default_rng([seed, 17, int(now.at.timestamp())])
        scores: Floats = draw.random((len(users), len(now.ids)))
        return scores

    return answer


def popularity(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """What most people ordered (or looked at) before the first round."""
    scores = _sold(past, settings["days"], settings["kind"])
    return lambda now, users: np.tile(scores, (len(users), 1))


def frequency(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """What the user ordered most often, then what sells."""
    scores = _sold(past, settings["days"], "order")

    def answer(now: Past, users: list[str]) -> Floats:
        own: Floats = _own(now, users, ("order",), None) + 1e-3 * scores / (scores.max() + 1e-9)
        return own

    return answer


def recency(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """What the user looked at or ordered last, then what sells."""
    scores = _sold(past, None, "order")
    kinds = ("view", "cart", "order") if settings["looks"] else ("order",)

    def answer(now: Past, users: list[str]) -> Floats:
        own: Floats = _own(now, users, kinds, settings["half_life"]) + 1e-6 * scores / (scores.max() + 1e-9)
        return own

    return answer


def item_knn(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """What others also ordered or looked at: cosine of items over users (Deshpande & Karypis 2004), times the user's own decayed counts."""
    kinds = ("view", "cart", "order") if settings["looks"] else ("order",)
    users = past.log.engaged.filter(pl.col("kind").is_in(kinds)).select("user", "item").unique()
    holder = np.zeros((int(users["user"].max() or 0) + 1, len(past.ids)))  # type: ignore[arg-type]
    holder[users["user"].to_numpy(), users["item"].to_numpy()] = 1.0
    together = holder.T @ holder
    norm = np.sqrt(together.diagonal())
    near = together / (np.outer(norm, norm) + settings["shrink"])
    np.fill_diagonal(near, 0.0)

    def answer(now: Past, asked: list[str]) -> Floats:
        found: Floats = _own(now, asked, kinds, 30.0) @ near
        return found

    return answer


def click_rate(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """Share of exposures that were looked at, by item and, as an option, by the user's state towards it."""
    frame = _units(past)
    views = past.log.engaged.filter(pl.col("kind") == "view").select("user", "place", "item").unique()
    hit = frame.join(views.with_columns(hit=pl.lit(1.0)), on=["user", "place", "item"], how="left")
    return _by_cell(past, hit["hit"].fill_null(0.0).to_numpy(), settings["states"], settings["strength"])


def after_shown(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """Order rate within the horizon after an item was shown, by item and state: what came after taken for what it did."""
    return _by_cell(past, _ordered(past), settings["states"], settings["strength"])


def ranker(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """LightGBM on orders after exposures (Ke et al. 2017): the user's state and history, the item and what both have to do with each other.

    ``target``: the order itself, or the order less the mean of its (stage, category of the need), which leaves what the item did.
    ``weighted``: exposures weigh by the inverse of their logged propensity, at most 5 times the mean. ``cells``: it also reads the mean gain of the
    item in the state, counted on other users.
    """
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise MissingExtraError("lightgbm", "bench") from error
    units, y = past.units, _ordered(past)
    frame = units.frame
    x = _features(
        past,
        frame["item"].to_numpy().astype(np.int64),
        frame["need"].cast(pl.Int64).fill_null(-1).to_numpy(),
        frame["stage"].cast(pl.Int64).to_numpy(),
        frame["state"].cast(pl.Int64).to_numpy(),
        facts(frame),
    )
    gain = y - (np.bincount(units.group, y) / np.maximum(np.bincount(units.group), 1))[units.group]
    known = _cells_of_others(past, gain)
    if settings["cells"]:
        x = np.column_stack([x, known.of_others])
    y = gain if settings["target"] == "gain" else y
    weight = np.minimum(units.weight, 5 * units.weight.mean()) if settings["weighted"] else np.ones(len(y))
    model: lightgbm.LGBMModel = lightgbm.LGBMModel(
        objective="binary" if settings["target"] == "order" else "regression",
        n_estimators=settings["trees"],
        learning_rate=0.05,
        num_leaves=settings["leaves"],
        min_child_samples=50,
        cat_smooth=20.0,
        colsample_bytree=0.8,
        subsample=0.7,
        subsample_freq=1,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        verbose=-1,
    )
    model.fit(x, y, sample_weight=weight / weight.mean(), categorical_feature=[0, 1, 2])

    def answer(now: Past, users: list[str]) -> Floats:
        where, size = now.standing(users), len(now.ids)
        state = where.towards(now.category)
        rows = np.repeat(np.arange(len(users)), size)
        item = np.tile(np.arange(size), len(users))
        features = _features(now, item, where.need[rows], where.stage[rows], state.ravel(), where.facts[rows])
        if settings["cells"]:
            features = np.column_stack([features, known.cells[state.ravel(), item]])
        return np.asarray(model.predict(features, raw_score=True)).reshape(len(users), size)

    return answer


def effect_greedy(settings: Mapping[str, Any], past: Past, seed: int) -> Answer:
    """The greatest doubly robust effect in the user's state, from our own evidence: an arm, not a baseline."""
    table = effects(past.log, past.options)[0].filter(pl.col("outcome") == "order")
    item = {name: place for place, name in enumerate(past.ids)}
    cells = np.zeros((len(STATES), len(past.ids)))
    for name, state, value in table.select("item", "state", settings["by"]).iter_rows():
        cells[STATES.index(state), item[name]] = value
    return from_cells(cells)


BASELINES: tuple[Baseline, ...] = (
    Baseline("random", random),
    Baseline("popularity", popularity, [{"days": d, "kind": k} for k in ("order", "view") for d in (28, 90, None)]),
    Baseline("frequency", frequency, [{"days": days} for days in (28, 90, None)]),
    Baseline(
        "recency", recency, [{"looks": looks, "half_life": h} for looks in (False, True) for h in (7.0, 30.0, 90.0)]
    ),
    Baseline(
        "item_knn", item_knn, [{"looks": looks, "shrink": s} for looks in (False, True) for s in (1.0, 10.0, 100.0)]
    ),
    Baseline(
        "click_rate", click_rate, [{"states": st, "strength": s} for st in (False, True) for s in (5.0, 30.0, 100.0)]
    ),
    Baseline(
        "after_shown", after_shown, [{"states": st, "strength": s} for st in (False, True) for s in (5.0, 30.0, 100.0)]
    ),
    Baseline(
        "ranker",
        ranker,
        [
            {"target": target, "weighted": weighted, "cells": cells, "trees": 100, "leaves": 15}
            for target, weighted, cells in (
                ("order", False, False),
                ("order", True, False),
                ("order", False, True),
                ("gain", False, False),
                ("gain", False, True),
                ("gain", True, True),
            )
        ],
    ),
)
EFFECTS = Baseline("effects", effect_greedy, [{"by": by} for by in ("value", "low")])


def _sold(past: Past, days: int | None, kind: str) -> Floats:
    """(I,) people who ordered (looked at) each item in the last ``days`` days, None for ever."""
    rows = past.log.engaged.filter(pl.col("kind") == kind)
    if days is not None:
        rows = rows.filter(pl.col("time") >= past.at - pl.duration(days=days))
    return np.bincount(rows.select("user", "item").unique()["item"].to_numpy(), minlength=len(past.ids)).astype(float)


def _own(now: Past, users: list[str], kinds: tuple[str, ...], half_life: float | None) -> Floats:
    """(U, I) how often each user had to do with each item; with a half-life in days, older times count less."""
    numbers = {now.numbers[user]: row for row, user in enumerate(users)}
    rows = now.log.engaged.filter(pl.col("kind").is_in(kinds), pl.col("user").is_in(list(numbers)))
    age = rows.select((pl.lit(now.at) - pl.col("time")).dt.total_seconds() / 86_400).to_series().to_numpy()
    found = np.zeros((len(users), len(now.ids)))
    place = np.array([numbers[user] for user in rows["user"].to_list()], np.int64)
    np.add.at(found, (place, rows["item"].to_numpy()), 1.0 if half_life is None else 0.5 ** (age / half_life))
    return found


@dataclass(frozen=True)
class _Cells:
    of_others: Floats
    """(N,) mean gain of each unit's item and state among the users of other folds, shrunk"""
    cells: Floats
    """(states, I) the same among all"""


def _cells_of_others(past: Past, gain: Floats, *, folds: int = 5, strength: float = 20.0) -> _Cells:
    frame, size = past.units.frame, len(past.ids)
    cell = frame["state"].to_numpy().astype(np.int64) * size + frame["item"].to_numpy()
    fold = frame["user"].to_numpy() % folds

    def mean(rows: Ints) -> Floats:
        total, count = (
            np.bincount(cell[rows], gain[rows], len(STATES) * size),
            np.bincount(cell[rows], minlength=len(STATES) * size),
        )
        found: Floats = total / (count + strength)
        return found

    of_others = np.zeros(len(gain))
    for held in range(folds):
        of_others[fold == held] = mean(np.flatnonzero(fold != held))[cell[fold == held]]
    return _Cells(of_others, mean(np.arange(len(gain))).reshape(len(STATES), size))


def _units(past: Past) -> pl.DataFrame:
    return past.units.frame.select("item", "state", "user", "place", "need", "stage")


def _ordered(past: Past) -> Floats:
    return ordered_within(past.units.frame, past.log, timedelta(days=past.options.horizon_days))


def _by_cell(past: Past, happened: Floats, states: bool, strength: float) -> Answer:
    """Mean of what happened by item and state, shrunk to the state's mean by ``strength`` observations; or by item alone."""
    frame = past.units.frame
    item, state = frame["item"].to_numpy().astype(np.int64), frame["state"].to_numpy().astype(np.int64)
    if not states:
        state = np.zeros_like(state)
    size, shape = len(past.ids), (len(STATES), len(past.ids))
    cell = state * size + item
    count = np.bincount(cell, minlength=shape[0] * size).reshape(shape)
    total = np.bincount(cell, happened, shape[0] * size).reshape(shape)
    usual = (total.sum(axis=1) + 1e-9) / (count.sum(axis=1) + 1e-9)
    cells = (total + strength * usual[:, None]) / (count + strength)
    if not states:
        cells = np.tile(cells[:1], (len(STATES), 1))
        return from_cells(cells)
    return from_cells(cells - usual[:, None])


def from_cells(cells: Floats) -> Answer:
    """Scores from a table (states, I)."""

    def answer(now: Past, users: list[str]) -> Floats:
        state = now.standing(users).towards(now.category)
        found: Floats = cells[state, np.arange(len(now.ids))[None, :]]
        return found

    return answer


def _features(past: Past, item: Ints, need: Ints, stage: Ints, state: Ints, known: Floats) -> Floats:
    """(N, 10) the first three are categories."""
    price = past.log.items["price"].to_numpy()
    category = past.category[item]
    return np.column_stack([item, need + 1, category, stage, state, need == category, price[item], known])
