"""LightGBM over the obvious features, learnt from how earlier customers came back.

Ke et al.: LightGBM, NeurIPS 2017. ``ranker_full`` reads the backbone's own counted features instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rolegen_backbone.events import DAY, moment
from rolegen_backbone.features import Features
from rolegen_backbone.text_encoder import fit_text
from rolegen_errors import MissingExtraError

from .protocol import DORMANT_DAYS, HORIZON_DAYS, Floats, Ints, Past, Task
from .ranker_features import Counter, Rack, nearness
from .systems import Ask

if TYPE_CHECKING:
    import lightgbm

GRID: Mapping[str, list[Any]] = {
    "objective": ["binary", "lambdarank"],
    "least_gap": [30, 60, 90],
    "leaves": [7, 15, 31],
    "trees": [100, 200, 300, 400],
    "rate": [0.03, 0.05, 0.1],
    "least_rows": [50, 100, 200],
    "columns": [0.5, 0.8],
    "l2": [0.0, 10.0],
    "negatives": [30, 60],
}
BY_HAND: Mapping[str, Any] = {
    "objective": "binary",
    "least_gap": 30,
    "leaves": 31,
    "trees": 300,
    "rate": 0.05,
    "least_rows": 100,
    "columns": 0.5,
    "l2": 10.0,
    "negatives": 60,
}
"""what somebody who knows such logs would set; always the first trial"""
HISTORY_DAYS = 550
"""returns of the last so many days are learnt from"""
SNAPSHOT_DAYS = 91
"""item-kNN of training decisions is counted anew every so many days, always before the decisions that read it"""
TEXT_WIDTH = 64
"""numbers that a title becomes in the backbone's features"""


Look = Callable[[int, int], Rack]
"""(user, day) to the candidates of that decision, for days up to those of the past that it was made from"""
Looks = Callable[[Past], Look]
"""where features come from"""


def obvious(past: Past) -> Look:
    """The features of ``ranker_features.py``, with item-kNN of a snapshot at most 91 days old."""
    counter = Counter(past)
    snapshots: dict[int, Any] = {}

    def look(user: int, day: int) -> Rack:
        age = -(-(past.day - day) // SNAPSHOT_DAYS) * SNAPSHOT_DAYS
        if age not in snapshots:
            earlier = past if age == 0 else _before(past, past.day - age)
            near = nearness(earlier)
            if age:  # items sold since have no neighbours yet
                near = _widened(near, np.searchsorted(past.ids, earlier.ids), len(past.ids))
            snapshots[age] = near
        return counter.rack(user, day, snapshots[age])

    return look


def counted(past: Past) -> Look:
    """The backbone's pool features, with the facts about the user beside them."""
    texts = past.items["title"].to_list()
    text = fit_text(None, texts, width=TEXT_WIDTH, seed=0).encode(texts)
    features = Features(past.log, past.items["price"].to_numpy().astype(np.float32), text)

    def look(user: int, day: int) -> Rack:
        pool = features.pool(user, day * DAY)
        facts = np.tile(pool.user, (len(pool.item), 1))
        return Rack(pool.item, np.concatenate([pool.feature, facts], axis=1))

    return look


def scorer(looks: Looks, task: Task) -> Callable[[Mapping[str, Any], Past, int], Callable[[Ask], Floats]]:
    """A ranker for one task: in *discovery* it learns from items that were new to the customer, among such items."""

    def score(settings: Mapping[str, Any], cut: Past, seed: int) -> Callable[[Ask], Floats]:
        model = _fit(settings, _returns(looks, cut, seed), task, seed)

        def answer(ask: Ask) -> Floats:
            found = np.full((len(ask.users), len(ask.past.ids)), -1e3) + ask.past.tie
            racks = _asked(looks, ask.past, ask.users)
            values = np.asarray(model.predict(np.concatenate([rack.feature for rack in racks]), raw_score=True))
            for row, (rack, value) in enumerate(
                zip(racks, np.split(values, np.cumsum([len(rack.item) for rack in racks])[:-1]), strict=True)
            ):
                found[row, rack.item] = value
            return found

        return answer

    return score


@lru_cache(maxsize=8)
def _looking(looks: Looks, past: Past) -> Look:
    return looks(past)


@lru_cache(maxsize=8)
def _asked(looks: Looks, past: Past, users: tuple[str, ...]) -> list[Rack]:
    """The candidates of users at the past's date, for all tasks, seeds and trials."""
    look = _looking(looks, past)
    return [look(int(user), past.day) for user in past.rows(users)]


@dataclass(frozen=True)
class _Return:
    """How a customer came back: C candidates of a day before it, which of them were then bought or were new to the customer."""

    rack: Rack
    bought: npt.NDArray[np.bool_]
    new: npt.NDArray[np.bool_]
    gap: int
    """days since the order before"""


@lru_cache(maxsize=1)
def _returns(looks: Looks, past: Past, seed: int) -> list[_Return]:
    """Past returns, each looked at from a random day on which a decision might have been made."""
    random = np.random.default_rng(seed)
    baskets, look = past.baskets, _looking(looks, past)
    gap = baskets.day - baskets.previous
    room = np.minimum(np.where(gap >= DORMANT_DAYS, gap - DORMANT_DAYS, gap - 1), HORIZON_DAYS - 1)
    lead = (random.random(len(baskets)) * (room + 1)).astype(np.int64)
    day = baskets.day - lead
    chosen = np.flatnonzero(
        (baskets.previous >= 0) & (gap >= min(GRID["least_gap"])) & (day >= past.day - HISTORY_DAYS)
    )
    found = []
    for b in chosen[np.argsort(day[chosen], kind="stable")]:
        user = int(baskets.user[b])
        rack = look(user, int(day[b]))
        mine = past.log.item[past.log.rows(user, int(day[b]) * DAY)]
        bought = np.isin(rack.item, baskets.items_of(int(b)))
        found.append(_Return(rack, bought, ~np.isin(rack.item, mine), int(gap[b])))
    return found


def _fit(settings: Mapping[str, Any], returns: list[_Return], task: Task, seed: int) -> lightgbm.LGBMModel:
    """A boosted model on all bought and some other candidates of each return, returns weighing alike."""
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise MissingExtraError("lightgbm", "bench") from error
    random = np.random.default_rng(seed)
    rows, label, weight, group = [], [], [], []
    for one in returns:
        allowed = one.new if task == "discovery" else np.ones_like(one.new)
        bought = np.flatnonzero(one.bought & allowed)
        if one.gap < settings["least_gap"] or not len(bought):
            continue
        other = np.flatnonzero(~one.bought & allowed)
        other = random.choice(other, min(len(other), settings["negatives"]), replace=False)
        keep = np.r_[bought, other]
        rows.append(one.rack.feature[keep])
        label.append(one.bought[keep])
        weight.append(np.full(len(keep), 1 / len(keep)))
        group.append(len(keep))
    ranks = settings["objective"] == "lambdarank"
    model = lightgbm.LGBMModel(
        objective=settings["objective"],
        n_estimators=settings["trees"],
        learning_rate=settings["rate"],
        num_leaves=settings["leaves"],
        min_child_samples=settings["least_rows"],
        colsample_bytree=settings["columns"],
        subsample=0.7,
        subsample_freq=1,
        reg_lambda=settings["l2"],
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,  # threads that share their cores with other work made it six times slower, and move the last bits
        verbose=-1,
    )
    X, y = np.concatenate(rows), np.concatenate(label).astype(int)
    if ranks:
        model.fit(X, y, group=group)
    else:
        scale = np.concatenate(weight)
        model.fit(X, y, sample_weight=scale / scale.mean())
    return model


def _before(past: Past, day: int) -> Past:
    """The same past, as of an earlier day."""
    return Past.of(past.events, past.items, moment(day * DAY))


def _widened(near: Any, place: Ints, items: int) -> Any:
    """A similarity over ``place`` of ``items``, as one over all of them."""
    from scipy import sparse

    found = near.tocoo()
    return sparse.csr_matrix((found.data, (place[found.row], place[found.col])), shape=(items, items))
