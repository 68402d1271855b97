"""What another policy would have brought, from what one policy with known probabilities brought.

N decisions have K places each. w is the probability of the shown item at its place under the policy in question over that
under the policy that showed it, r the reward at the place, q(a) a model's guess of the reward of an item there, q(pi) its mean under the
policy in question. All sums over places: the item-position model, in which a reward depends on the item and its place alone (Li et al.
2018, "Offline Evaluation of Ranking Policies with Click Models"). With K = 1 these are the estimators of a plain bandit.

=========  ===========================================================================================================
ips        mean of sum_k w r (Horvitz and Thompson 1952)
clipped    the same with w cut at sqrt(N) (Ionides 2008): less spread, too low where it cuts
snips      sum_k of (sum_i w r) / (sum_i w): self-normalised (Swaminathan and Joachims 2015)
dr         mean of sum_k q(pi) + w (r - q(a)): doubly robust (Dudik, Langford and Li 2011)
=========  ===========================================================================================================

Intervals are 95 % percentile bootstrap over users (scipy), who keep all their decisions. The effective sample size of a place is (sum w)^2 /
sum w^2 (Kong 1992). The obp library has these too; it is not maintained (last release 2023) and does not install on Python 3.11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap

from rolegen_errors import InputError

Floats = npt.NDArray[np.float64]
RESAMPLES = 2000
_CELLS = 4_000_000
"""of a batch of resamples: bounds the memory to about 32 MB"""
Figure = Callable[[str, Floats], Floats]
"""name of an estimator and sums over users (..., M) to its value (...)"""
ESTIMATORS = ("ips", "clipped", "snips", "dr")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval; the bounds are None for fewer than two users."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Value:
    """What the policy in question would have brought for each decision."""

    decisions: int
    users: int
    logged: Estimate
    """what was brought by what was shown: no estimate of another policy, but what it is to be compared with"""
    estimates: Mapping[str, Estimate]
    """by the names of the table above; ``dr`` only with a reward model"""
    effective: tuple[float, ...]
    """effective sample size by place"""
    clipped: float
    """share of the weights that were cut"""


def estimate_value(
    weight: Floats,
    reward: Floats,
    users: Sequence[str],
    *,
    model_logged: Floats | None = None,
    model_target: Floats | None = None,
    seed: int = 0,
) -> Value:
    """All estimators of the module.

    Args:
        weight: (N, K) importance weights w; 0 where the policy in question would not have shown that item there.
        reward: (N, K).
        users: (N,) whose decision it was; a user's decisions are drawn together.
        model_logged: (N, K) q of what was shown, from a model that has not seen that user; None leaves out ``dr``.
        model_target: (N, K) q(pi).

    Raises:
        InputError: shapes differ, a number is not finite, a weight is negative, or there is no decision.
    """
    arrays = [weight, reward, *(a for a in (model_logged, model_target) if a is not None)]
    if weight.ndim != 2 or not weight.size or any(a.shape != weight.shape for a in arrays) or len(users) != len(weight):
        raise InputError(
            f"shapes do not fit: {[a.shape for a in arrays]} for {len(users)} users",
            fix="pass (decisions, places) arrays",
        )
    if not all(np.isfinite(a).all() for a in arrays) or (weight < 0).any():
        raise InputError("a weight, reward or guess is not finite, or a weight is negative", fix="check propensities")
    places, most = weight.shape[1], np.sqrt(len(weight))
    columns = {
        "n": np.ones((len(weight), 1)),
        "logged": reward.sum(axis=1, keepdims=True),
        "ips": (weight * reward).sum(axis=1, keepdims=True),
        "clipped": (np.minimum(weight, most) * reward).sum(axis=1, keepdims=True),
        "gain": weight * reward,
        "weight": weight,
    }
    if model_logged is not None and model_target is not None:
        columns["dr"] = (model_target + weight * (reward - model_logged)).sum(axis=1, keepdims=True)
    names = [name for name, column in columns.items() for _ in range(column.shape[1])]
    _, owner = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    total_UM = np.zeros((int(owner.max()) + 1, len(names)))
    np.add.at(total_UM, owner, np.hstack(list(columns.values())))
    at = {name: np.flatnonzero(np.array(names) == name) for name in columns}

    def figure(name: str, sum_BM: Floats) -> Floats:
        """The estimate from sums over users, (..., M) to (...)."""
        if name == "snips":
            gain, mass = sum_BM[..., at["gain"]], sum_BM[..., at["weight"]]
            found: Floats = np.divide(gain, mass, out=np.zeros_like(gain), where=mass > 0).sum(axis=-1)
            return found
        ratio: Floats = sum_BM[..., at[name][0]] / sum_BM[..., at["n"][0]]
        return ratio

    asked = ["logged", *(name for name in ESTIMATORS if name != "dr" or "dr" in columns)]
    estimates = _intervals(figure, asked, total_UM, seed)
    mass, square = weight.sum(axis=0), (weight**2).sum(axis=0)
    return Value(
        decisions=len(weight),
        users=len(total_UM),
        logged=estimates.pop("logged"),
        estimates=estimates,
        effective=tuple(float(mass[k] ** 2 / square[k]) if square[k] > 0 else 0.0 for k in range(places)),
        clipped=float((weight > most).mean()),
    )


def _intervals(figure: Figure, names: Sequence[str], total_UM: Floats, seed: int) -> dict[str, Estimate]:
    users = len(total_UM)
    values = {name: float(figure(name, total_UM.sum(axis=0))) for name in names}
    if users < 2:
        return {name: Estimate(value=value, low=None, high=None) for name, value in values.items()}

    def statistic(rows: npt.NDArray[np.int64], axis: int = -1) -> Floats:
        """All figures of resampled users: rows (..., U) to (names, ...)."""
        drawn = np.moveaxis(rows, axis, -1)
        flat = drawn.reshape(-1, users).astype(np.int64)
        # A resample as counts of users: one product of matrices instead of a copy of all rows.
        count = np.zeros((len(flat), users))
        np.add.at(count, (np.arange(len(flat))[:, None], flat), 1.0)
        sums = count @ total_UM
        return np.stack([figure(name, sums).reshape(drawn.shape[:-1]) for name in names])

    found = bootstrap(
        (np.arange(users),),
        statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, _CELLS // users),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return {
        name: Estimate(value=values[name], low=float(low), high=float(high))
        for name, low, high in zip(names, np.atleast_1d(found.low), np.atleast_1d(found.high), strict=True)
    }
