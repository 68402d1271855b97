"""Ranking, coverage and collapse metrics, with bootstrap intervals over users.

A *slate* is a ranked sequence of item ids without repeats, best first; a *basket* is the set of distinct items that
the user then bought. Users who did not come back have no basket: count them, and leave them out of ranking metrics.

Nothing here flatters: a slate that repeats an item, an empty basket or a user without a slate is an ``InputError``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

from rolegen_errors import InputError

RankingMetric = Callable[[Sequence[str], Collection[str], int], float]
"""(slate, basket, k) to a score in [0, 1]."""

_RESAMPLES = 2000
_CELLS_PER_BATCH = 2_000_000  # bounds the bootstrap's memory to about 32 MB whatever the number of users


def hit_at_1(slate: Sequence[str], basket: Collection[str]) -> float:
    r"""1 if the first item of the slate is in the basket, else 0: :math:`[s_1 \in B]`.

    >>> hit_at_1(["mug", "tray"], {"mug", "lamp"})
    1.0
    >>> hit_at_1(["tray", "mug"], {"mug", "lamp"})
    0.0
    """
    _check(slate, basket, k=1)
    return float(bool(slate) and slate[0] in basket)


def recall_at(slate: Sequence[str], basket: Collection[str], k: int) -> float:
    r"""Share of what could be found that was found: :math:`|\{s_1..s_k\} \cap B| / \min(k, |B|)`, in [0, 1].

    Dividing by ``min(k, |basket|)`` lets a perfect slate reach 1 for baskets larger than ``k``.

    >>> recall_at(["mug", "tray", "lamp"], {"mug", "lamp", "clock"}, k=2)
    0.5
    """
    _check(slate, basket, k=k)
    wanted = set(basket)
    return sum(item in wanted for item in slate[:k]) / min(k, len(wanted))


def ndcg_at(slate: Sequence[str], basket: Collection[str], k: int) -> float:
    r"""Normalised discounted cumulative gain with binary relevance, in [0, 1].

    :math:`\sum_{i=1}^{k} [s_i \in B] / \log_2(i+1)` divided by its value for a perfect slate,
    :math:`\sum_{i=1}^{\min(k, |B|)} 1 / \log_2(i+1)` (Järvelin and Kekäläinen, 2002).

    >>> round(ndcg_at(["tray", "mug"], {"mug"}, k=10), 4)  # 1 / log2(3)
    0.6309
    """
    _check(slate, basket, k=k)
    wanted = set(basket)
    gain = sum(1.0 / math.log2(i + 2) for i, item in enumerate(slate[:k]) if item in wanted)
    ideal = sum(1.0 / math.log2(i + 2) for i in range(min(k, len(wanted))))
    return gain / ideal


def category_coverage(slates: Collection[Sequence[str]], category_of: Mapping[str, str], k: int = 10) -> float:
    r"""Share of the catalogue's categories that at least one slate shows: :math:`|\bigcup_u c(S_u)| / |C|`.

    ``category_of`` maps every catalogue item to its category, so that its values are all of :math:`C`.

    >>> category_coverage([["mug"], ["tray"]], {"mug": "kitchen", "tray": "kitchen", "lamp": "light"})
    0.5
    """
    shown = {_category(item, category_of) for slate in slates for item in slate[:k]}
    return len(shown) / max(1, len(set(category_of.values())))


def category_entropy(slates: Collection[Sequence[str]], category_of: Mapping[str, str], k: int = 10) -> float:
    r"""Mean over slates of the Shannon entropy of a slate's categories in nats: :math:`-\sum_c p_c \ln p_c`.

    0 when every slate shows one category (collapse), at most :math:`\ln k`. An empty slate counts as 0.

    >>> round(category_entropy([["mug", "lamp"]], {"mug": "kitchen", "lamp": "light"}), 4)  # ln 2
    0.6931
    """
    if not slates:
        raise InputError("no slate to take an entropy of", fix="pass at least one slate")
    total = 0.0
    for slate in slates:
        counts = Counter(_category(item, category_of) for item in slate[:k])
        size = counts.total()
        total -= sum(n / size * math.log(n / size) for n in counts.values())
    return max(0.0, total / len(slates))


def catalogue_coverage(slates: Collection[Sequence[str]], catalogue: Collection[str], k: int = 10) -> float:
    r"""Share of the catalogue that at least one slate shows: :math:`|\bigcup_u S_u| / |I|`, in [0, 1].

    >>> catalogue_coverage([["mug"], ["mug", "tray"]], ["mug", "tray", "lamp", "clock"])
    0.5
    """
    return int(np.count_nonzero(_exposure(slates, catalogue, k))) / len(set(catalogue))


def gini(slates: Collection[Sequence[str]], catalogue: Collection[str], k: int = 10) -> float:
    r"""Gini index of exposure over the whole catalogue, unshown items included.

    With exposures sorted, :math:`x_1 \le \dots \le x_n`:
    :math:`G = \sum_i (2i - n - 1) x_i / (n \sum_i x_i)`; 0 when all items are shown equally often, (n-1)/n when one
    item takes everything. It is 0 when nothing is shown.

    >>> gini([["mug"], ["mug"]], ["mug", "tray", "lamp", "clock"])
    0.75
    """
    x = np.sort(_exposure(slates, catalogue, k))
    n = len(x)
    total = float(x.sum())
    if total == 0.0:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * x).sum() / (n * total))


def scores(slates: Mapping[str, Sequence[str]], baskets: Mapping[str, Collection[str]], k: int = 10) -> Scores:
    """Hit@1, recall@k and NDCG@k of every user who has a basket, in the order of ``baskets``."""
    missing = [user for user in baskets if user not in slates]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(baskets)} users with a basket have no slate",
            where=f"first user {missing[0]!r}",
            fix="give every user a slate; an empty one scores 0",
        )
    users = tuple(baskets)
    rows = [
        (hit_at_1(slates[u], baskets[u]), recall_at(slates[u], baskets[u], k), ndcg_at(slates[u], baskets[u], k))
        for u in users
    ]
    columns = np.asarray(rows, dtype=np.float64).reshape(len(users), 3)
    return Scores(users=users, k=k, hit1=columns[:, 0], recall=columns[:, 1], ndcg=columns[:, 2])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores per user, each array of shape [users], aligned with ``users``."""

    users: tuple[str, ...]
    k: int
    hit1: NDArray[np.float64]
    recall: NDArray[np.float64]
    ndcg: NDArray[np.float64]

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """The arrays by the name that benchmarks use: ``hit1``, ``recall10``, ``ndcg10`` for k = 10."""
        return {"hit1": self.hit1, f"recall{self.k}": self.recall, f"ndcg{self.k}": self.ndcg}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean with its bootstrap interval; ``low`` and ``high`` are None for fewer than two users."""

    value: float
    low: float | None
    high: float | None
    users: int


def interval(values: Sequence[float] | NDArray[np.float64], *, level: float = 0.95, seed: int = 0) -> Interval:
    """The mean of one score per user, with the percentile bootstrap interval over users (2,000 seeded resamples).

    >>> interval([0.0, 1.0, 1.0, 1.0]).value
    0.75
    """
    sample = np.asarray(values, dtype=np.float64)
    _check_scores(sample)
    mean = float(sample.mean())
    if sample.size < 2:
        return Interval(value=mean, low=None, high=None, users=1)
    if np.ptp(sample) == 0.0:  # every resample has the same mean; scipy would warn about a degenerate distribution
        return Interval(value=mean, low=mean, high=mean, users=int(sample.size))
    found = bootstrap(
        (sample,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _CELLS_PER_BATCH // sample.size),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value=mean, low=float(found.low), high=float(found.high), users=int(sample.size))


def clustered(
    values: Sequence[float] | NDArray[np.float64], users: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> Interval:
    r"""The mean of scores of which a user may have several, with the percentile bootstrap interval over users.

    A resample draws users with all of their scores: :math:`\sum_u w_u s_u / \sum_u w_u n_u` with multinomial weights
    :math:`w` (2,000 seeded resamples). ``users`` counts users, not scores.

    >>> clustered([1.0, 1.0, 0.0], ["ann", "ann", "bob"]).users
    2
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.shape != (len(users),):
        raise InputError(f"{len(users)} users for scores of shape {sample.shape}", fix="name the user of every score")
    _check_scores(sample)
    mean = float(sample.mean())
    distinct, place = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    U = len(distinct)
    if U < 2:
        return Interval(value=mean, low=None, high=None, users=U)
    total, count = np.bincount(place, weights=sample), np.bincount(place)
    rng = np.random.default_rng(seed)
    means: list[float] = []
    for low in range(0, _RESAMPLES, step := max(1, _CELLS_PER_BATCH // U)):
        weight = rng.multinomial(U, np.full(U, 1 / U), size=min(step, _RESAMPLES - low))
        means += (weight @ total / (weight @ count)).tolist()
    bounds = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=mean, low=float(bounds[0]), high=float(bounds[1]), users=U)


def paired_difference(ours: Mapping[str, float], theirs: Mapping[str, float], *, seed: int = 0) -> Interval:
    """Mean of ``ours - theirs`` over the same users, with its bootstrap interval.

    Users are resampled together with both of their scores, so what makes a user easy for both systems cancels out.

    >>> paired_difference({"u1": 1.0, "u2": 0.5}, {"u1": 0.5, "u2": 0.0}).value
    0.5
    """
    alone = sorted(set(ours) ^ set(theirs))
    if alone:
        raise InputError(
            f"{len(alone)} users have a score in one system only",
            where=f"first user {alone[0]!r}",
            fix="score both systems on the same users",
        )
    return interval([score - theirs[user] for user, score in ours.items()], seed=seed)


def _check_scores(sample: NDArray[np.float64]) -> None:
    if sample.ndim != 1 or sample.size == 0:
        raise InputError(f"a mean needs at least one user, got an array of shape {sample.shape}", fix="count returners")
    if not np.isfinite(sample).all():
        first = int(np.flatnonzero(~np.isfinite(sample))[0])
        raise InputError(f"score {first} is {sample[first]}", fix="give every user a finite score")


def _exposure(slates: Collection[Sequence[str]], catalogue: Collection[str], k: int) -> NDArray[np.int64]:
    position = {item: i for i, item in enumerate(dict.fromkeys(catalogue))}
    if not position:
        raise InputError("the catalogue is empty", fix="pass all items that could have been shown")
    counts = np.zeros(len(position), dtype=np.int64)
    for slate in slates:
        for item in slate[:k]:
            if item not in position:
                raise InputError(
                    "a slate shows an item that the catalogue lacks",
                    where=f"item {item!r}",
                    fix="pass the catalogue that the slates were made from",
                )
            counts[position[item]] += 1
    return counts


def _category(item: str, category_of: Mapping[str, str]) -> str:
    if item not in category_of:
        raise InputError(
            "a slate shows an item without a category",
            where=f"item {item!r}",
            fix="give every catalogue item a category, a catch-all one if need be",
        )
    return category_of[item]


def _check(slate: Sequence[str], basket: Collection[str], *, k: int) -> None:
    if k < 1:
        raise InputError(f"k must be at least 1, got {k}")
    if not basket:
        raise InputError("the basket is empty", fix="leave users who did not come back out of ranking metrics")
    if len(set(slate)) != len(slate):
        twice = next(item for item, n in Counter(slate).items() if n > 1)
        raise InputError("a slate shows an item twice", where=f"item {twice!r}", fix="rank distinct items")
