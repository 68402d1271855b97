"""From slates to figures: metrics per case, intervals by bootstrap over customers, paired differences.

A customer may be dormant at several dates; a resample draws customers, with all of their cases. A system with several
seeds has the mean of its seeds per case, so its interval is that of the system, and ``spread`` tells how far seeds lie apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rolegen_errors import InputError

from ..metrics import Interval, catalogue_coverage, category_entropy, clustered, gini, scores
from .protocol import TASKS, Cases, Floats, Task

METRICS: Mapping[str, tuple[str, str]] = {
    "hit1": ("hit@1", "share of cases in which the first item of the slate was bought"),
    "recall10": ("recall@10", "bought items among the ten, divided by min(10, items bought)"),
    "ndcg10": ("NDCG@10", "the same, with hits at the top counting more"),
    "coverage": ("coverage", "share of the catalogue that any slate shows"),
    "gini": ("Gini", "inequality of exposure over the catalogue: 0 all alike, 1 all on one item; lower is fairer"),
    "entropy": ("category entropy", "of a slate's ten items, in nats; higher is more varied"),
}
RANKING = ("hit1", "recall10", "ndcg10")
TaskSlates = Mapping[Task, Mapping[str, Sequence[str]]]
"""task -> case key -> item ids"""


@dataclass(frozen=True)
class Judged:
    """Scores of one system in one task."""

    keys: tuple[str, ...]
    users: tuple[str, ...]
    cases: Mapping[str, Floats]
    """ranking metric -> (N,) mean over seeds"""
    seeds: Mapping[str, Floats]
    """ranking metric -> (S,) mean over cases"""
    spread: Mapping[str, float]
    """coverage, gini and entropy, mean over seeds"""

    def interval(self, metric: str) -> Interval:
        return clustered(self.cases[metric], self.users)

    def minus(self, other: Judged, metric: str) -> Interval:
        """Paired by case, resampled by customer."""
        if self.keys != other.keys:
            raise InputError("the two systems were judged on different cases", fix="run both on the same period")
        return clustered(self.cases[metric] - other.cases[metric], self.users)


@dataclass(frozen=True)
class Catalogue:
    """What coverage and entropy are measured against: all items that could be shown at any date."""

    category_of: Mapping[str, str]

    @classmethod
    def of(cls, items: pl.DataFrame) -> Catalogue:
        return cls(dict(items.select("item", "category").iter_rows()))


def judge(cases: Cases, runs: Sequence[TaskSlates], catalogue: Catalogue) -> dict[Task, Judged]:
    """Judge the runs of one system, one for each seed, in the tasks that it was asked.

    Raises:
        InputError: a case has no slate, or a slate shows an item twice or, in discovery, is of unknown items.
    """
    found: dict[Task, Judged] = {}
    for task in TASKS:
        if any(task not in run for run in runs):
            continue
        wanted = cases.of(task)
        baskets = {case.key: case.target(task) for case in wanted}
        per_seed = [scores(run[task], baskets).columns() for run in runs]
        shown = [[run[task][case.key] for case in wanted] for run in runs]
        found[task] = Judged(
            keys=tuple(baskets),
            users=tuple(case.user for case in wanted),
            cases={metric: np.mean([one[metric] for one in per_seed], axis=0) for metric in RANKING},
            seeds={metric: np.array([one[metric].mean() for one in per_seed]) for metric in RANKING},
            spread={
                "coverage": float(np.mean([catalogue_coverage(slates, catalogue.category_of) for slates in shown])),
                "gini": float(np.mean([gini(slates, catalogue.category_of) for slates in shown])),
                "entropy": float(np.mean([category_entropy(slates, catalogue.category_of) for slates in shown])),
            },
        )
    return found
