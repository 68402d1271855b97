"""How likely each considered item is in a dormant user's next order, given that one comes: fitted on earlier returns.

Two logistic models, one for items that the user had before and one for new items, over the signals of
:mod:`~rolegen_agent.evidence.signals`. It ranks what the evidence reasoner proposes; it is a prediction, not an effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.linear_model import LogisticRegression

from .baskets import copurchase
from .buying import replenishment
from .log import Scope
from .market import DAY_US, Market, microseconds
from .options import EvidenceOptions
from .signals import FEATURES, Considered, Floats, History, Reference, consider

ROUNDS = 6
ROUND_DAYS = 30
"""past decision dates that returns are collected at: as many, this far apart, the last one a horizon before ``at``"""
MAX_RETURNS = 2000
"""the newest ones are taken"""
MIN_HITS = 100
"""a model with fewer hits is not fitted; the stated prior weights serve instead"""

_PRIOR_OWN = {"orders": 0.8, "views": 0.4, "recent": 0.4, "complement": 0.3}
_PRIOR_NEW = {"recent": 0.8, "views": 0.4, "complement": 0.5, "sibling": 0.4, "category": 0.2}
_PRIOR_BIAS = (-3.5, -6.0)


@dataclass(frozen=True)
class NextOrder:
    """Logistic weights over ``FEATURES`` for own and for new items."""

    own: tuple[float, ...]
    own_bias: float
    new: tuple[float, ...]
    new_bias: float
    returns: int
    """earlier returns that were learnt from"""
    fitted: bool
    """False: at least one of the two models is the stated prior, for want of returns in the log"""

    def probability(self, considered: Considered) -> Floats:
        """P(item in the next order | one comes), shape (items,)."""
        own = considered.signals @ np.asarray(self.own) + self.own_bias
        new = considered.signals @ np.asarray(self.new) + self.new_bias
        logit = np.where(considered.owned, own, new)
        chance: Floats = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
        return chance


def fit_next_order(
    events: pl.DataFrame, market: Market, rows: Mapping[str, pl.DataFrame], scope: Scope, options: EvidenceOptions
) -> NextOrder:
    """Fit on users who were dormant at earlier dates and ordered again, all of it before the as-of time.

    Item-to-item statistics for the fit are those from before the earliest of these dates: computed later they would
    already know the orders to be predicted, and be trusted too much. What was given back since counts as never bought.

    Args:
        rows: of the ledger, ``orders``, ``replenishment`` and ``intervals``.
    """
    at = scope.at
    horizon = timedelta(days=options.return_days)
    past = events.filter(pl.col("time") < at)
    first = past["time"].min()
    dates = [at - horizon - timedelta(days=ROUND_DAYS * k) for k in range(ROUNDS)]
    dates = [date for date in dates if isinstance(first, datetime) and date - horizon > first]
    lines = _lines(past, market)
    returns = [found for date in dates for found in _returns(lines, date, options)][:MAX_RETURNS]
    if not returns:
        return _fitted([], [], [], 0)
    then = replace(scope, at=min(dates))
    complements, siblings, _ = copurchase(rows["orders"].filter(pl.col("time") < then.at), then, options)
    rebuys, intervals = (rows[name].filter(pl.col("time") < then.at) for name in ("replenishment", "intervals"))
    tables = {
        "complement": complements,
        "siblings": siblings,
        "replenishment": replenishment(rebuys, intervals, then, options),
    }
    reference = Reference.of(tables, market)
    signals, owned, hits = [], [], []
    for date, history, bought in returns:
        considered = consider(history, microseconds(date), market, market.as_of(date), reference)
        signals.append(considered.signals)
        owned.append(considered.owned)
        hits.append(np.isin(considered.code, bought))
    return _fitted(signals, owned, hits, len(returns))


@dataclass(frozen=True)
class _Lines:
    """Orders, views and carts sorted by user and time; ``start`` are the offsets of the users."""

    code: npt.NDArray[np.int64]
    us: npt.NDArray[np.int64]
    order: npt.NDArray[np.bool_]
    start: npt.NDArray[np.int64]


def _lines(past: pl.DataFrame, market: Market) -> _Lines:
    codes = pl.DataFrame({"item": market.items}).with_row_index("code")
    frame = (
        past.filter(pl.col("behaviour").is_in(["view", "cart", "order"]))
        .join(codes, on="item", how="inner")
        .select(
            "code",
            user=pl.col("user").rank("dense"),
            us=pl.col("time").cast(pl.Datetime("us", "UTC")).to_physical(),
            order=pl.col("behaviour") == "order",
        )
        .sort("user", "us", maintain_order=True)
    )
    user = frame["user"].to_numpy()
    start = np.append(np.flatnonzero(np.diff(user, prepend=0)), len(user)).astype(np.int64)
    return _Lines(
        frame["code"].to_numpy().astype(np.int64),
        frame["us"].to_numpy().astype(np.int64),
        frame["order"].to_numpy(),
        start,
    )


def _returns(
    lines: _Lines, date: datetime, options: EvidenceOptions
) -> list[tuple[datetime, History, npt.NDArray[np.int64]]]:
    """Users without an order for ``return_days`` before ``date`` and with one within ``return_days`` after it."""
    now, span = microseconds(date), int(options.return_days * DAY_US)
    found = []
    for a, b in zip(lines.start[:-1], lines.start[1:], strict=True):
        k = a + int(np.searchsorted(lines.us[a:b], now))
        if k in (a, b):
            continue
        ordered_before = lines.us[a:k][lines.order[a:k]]
        after = k + np.flatnonzero(lines.order[k:b] & (lines.us[k:b] < now + span))
        if not len(after) or (len(ordered_before) and now - ordered_before[-1] < span):
            continue
        basket = after[lines.us[after] // DAY_US == lines.us[after[0]] // DAY_US]
        history = History(lines.code[a:k], lines.us[a:k], lines.order[a:k])
        found.append((date, history, np.unique(lines.code[basket])))
    return found


def _fitted(
    signals: list[Floats], owned: list[npt.NDArray[np.bool_]], hits: list[npt.NDArray[np.bool_]], returns: int
) -> NextOrder:
    weights: list[tuple[tuple[float, ...], float]] = []
    fitted = True
    for own in (True, False):
        prior = _PRIOR_OWN if own else _PRIOR_NEW
        x = np.concatenate([part[mask == own] for part, mask in zip(signals, owned, strict=True)]) if signals else None
        y = np.concatenate([part[mask == own] for part, mask in zip(hits, owned, strict=True)]) if hits else None
        if x is None or y is None or y.sum() < MIN_HITS or y.all():
            fitted = False
            weights.append((tuple(prior.get(name, 0.0) for name in FEATURES), _PRIOR_BIAS[not own]))
            continue
        mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
        model = LogisticRegression(C=0.1, max_iter=300).fit((x - mean) / deviation, y)
        slope = model.coef_[0] / deviation
        weights.append((tuple(map(float, slope)), float(model.intercept_[0] - slope @ mean)))
    return NextOrder(*weights[0], *weights[1], returns=returns, fitted=fitted)
