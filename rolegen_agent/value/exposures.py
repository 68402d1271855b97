"""What a policy of slates would have brought, from exposures that another policy logged: SNIPS within intent states.

A unit is one logged exposure with its propensity; its reward is a net order within a horizon, less what was to be
expected in that state whatever was shown. A policy is what share of its slates' places each item has for users in
each context (category and stage of the need), places weighed by 1 / log2(1 + place). With contexts weighed as the policy's users
meet their slates in them, each unit has the weight

    omega = share(context) / n(context) * policy(item | context) / propensity,

and the value is sum(omega * reward) / sum(omega) (self-normalised inverse propensities: Swaminathan & Joachims 2015). Errors are
clustered by user. So an answer is per showing, and supposes that what an exposure does depends on the context, not on
who is in it; two policies are compared on the same units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from ..evidence import EvidenceOptions
from ..evidence.followed import ordered_within
from ..evidence.log import read_log
from ..evidence.units import read_units
from ..outlook import Context

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Exposures:
    """N logged exposures whose horizon is over."""

    item: Ints
    """(N,) place in the catalogue"""
    context: Ints
    """(N,) see :meth:`key`"""
    user: Ints
    weight: Floats
    """inverse propensities"""
    reward: Floats

    @staticmethod
    def key(context: Context) -> int:
        return (context[0] + 1) * 8 + context[1]

    def __len__(self) -> int:
        return len(self.item)


def read_exposures(
    events: pl.DataFrame,
    items: pl.DataFrame,
    *,
    since: datetime,
    until: datetime,
    options: EvidenceOptions,
    days: float,
) -> Exposures | None:
    """Exposures in [``since``, ``until`` - ``days``) with what followed within ``days``; None where none were logged.

    Args:
        items: the catalogue by item id, whose places the exposures name.
    """
    log = read_log(events, items, at=until)
    if log.exposed.is_empty():
        return None
    span = EvidenceOptions(active_days=options.active_days, horizon_days=days)
    units = read_units(log, span)
    if units is None:
        return None
    ordered = ordered_within(units.frame, log, timedelta(days=days))
    chosen = units.frame.select((pl.col("time") >= since).alias("in"))["in"].to_numpy()
    if not chosen.any():
        return None
    frame = units.frame.filter(pl.Series(chosen))
    context = (frame["need"].cast(pl.Int64).fill_null(-1).to_numpy() + 1) * 8 + frame["stage"].to_numpy()
    reward = ordered[chosen]
    group = np.unique(context * 2 + (frame["orders_before"].to_numpy() > 0), return_inverse=True)[1]
    usual = np.bincount(group, reward) / np.bincount(group)
    return Exposures(
        item=frame["item"].to_numpy().astype(np.int64),
        context=context.astype(np.int64),
        user=frame["user"].to_numpy().astype(np.int64),
        weight=units.weight[chosen],
        reward=reward - usual[group],
    )


@dataclass(frozen=True)
class Policy:
    """What a policy shows, by context."""

    mass: Mapping[int, Floats]
    """(I,) by context key: share of the places, adds up to 1"""
    share: Mapping[int, float]
    """of the policy's users, by context key"""

    @classmethod
    def of(cls, slates: Sequence[Sequence[int]], contexts: Sequence[Mapping[Context, float]], items: int) -> Policy:
        """From one slate (item places, best first) for each user, and the shares of the contexts in which it is shown."""
        mass: dict[int, Floats] = {}
        share: dict[int, float] = {}
        for slate, shown in zip(slates, contexts, strict=True):
            place = 1 / np.log2(np.arange(len(slate)) + 2)
            place /= place.sum()
            for context, part in shown.items():
                key = Exposures.key(context)
                np.add.at(mass.setdefault(key, np.zeros(items)), np.asarray(slate, np.int64), part * place)
                share[key] = share.get(key, 0.0) + part
        return cls(
            {key: found / share[key] for key, found in mass.items()},
            {key: part / len(slates) for key, part in share.items()},
        )


@dataclass(frozen=True)
class Value:
    """The value of a policy: net orders per showing, above what the contexts bring anyway."""

    value: float
    influence: Floats
    """(users,) of each user of the log on the value"""
    effective: float
    """effective number of exposures: (sum omega)^2 / sum omega^2"""


def value_of(policy: Policy, seen: Exposures) -> Value:
    """See the module's text; NaN where no exposure matches."""
    keys, place, count = np.unique(seen.context, return_inverse=True, return_counts=True)
    share = np.array([policy.share.get(int(key), 0.0) for key in keys]) / count
    chance = np.zeros(len(seen))
    for number, key in enumerate(keys.tolist()):
        if key in policy.mass:
            rows = place == number
            chance[rows] = policy.mass[key][seen.item[rows]]
    omega = share[place] * chance * seen.weight
    total, users = float(omega.sum()), int(seen.user.max()) + 1
    if not total:
        return Value(float("nan"), np.zeros(users), 0.0)
    value = float((omega * seen.reward).sum() / total)
    influence: Floats = np.bincount(seen.user, omega * (seen.reward - value) / total, minlength=users).astype(
        np.float64
    )
    return Value(value, influence, total**2 / float((omega**2).sum()))


@dataclass(frozen=True)
class Difference:
    """A paired difference with its one-sided bounds."""

    value: float
    low: float
    high: float


def difference(new: Value, old: Value, confidence: float) -> Difference:
    """``new`` minus ``old`` on the same exposures; bounds that each hold with ``confidence`` (normal, clustered by user)."""
    gap = new.value - old.value
    reach = float(stats.norm.ppf(confidence)) * float(np.sqrt(((new.influence - old.influence) ** 2).sum()))
    return Difference(gap, gap - reach, gap + reach)


def pooled(values: Sequence[Value]) -> Value:
    """The mean of the values of one policy on exposures of different users."""
    return Value(
        float(np.mean([one.value for one in values])),
        np.concatenate([one.influence for one in values]) / len(values),
        sum(one.effective for one in values),
    )
