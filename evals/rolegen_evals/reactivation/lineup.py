"""The systems of the benchmark by name: baselines with their tuned settings, then ours with its ablations."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rolegen_errors import InputError

from . import ease, frequency, item_knn, popularity, ranker, rolegen, sasrec, tifu_knn
from .protocol import TASKS, Floats, Past, Task
from .systems import Ask, Scoring, System

TUNED = Path(__file__).parent / "tuned.json"
"""what ``python -m rolegen_evals.reactivation.tune`` chose on the validation period, and the trials it chose from"""
Score = Callable[[Mapping[str, Any], Past, int], Callable[[Ask], Floats]]


@dataclass(frozen=True)
class Baseline:
    """One tunable baseline: its scoring function for a task, and the settings that may be tried."""

    name: str
    label: str
    score: Callable[[Task], Score]
    grid: Mapping[str, list[Any]]
    modules: tuple[str, ...]
    seeds: int = 1
    by_hand: Mapping[str, Any] | None = None
    """settings that are tried before any of the grid"""
    trials: int = 12
    """how many settings are tried; all that the table compares with get the same"""

    def system(self, tuned: Mapping[Task, Mapping[str, Any]]) -> Scoring:
        """The baseline with settings for each task."""
        scorers = {task: self.score(task) for task in TASKS}
        return Scoring(self.name, scorers, tuned, modules=self.modules, seeds=self.seeds)


def _same(score: Score) -> Callable[[Task], Score]:
    return lambda task: score


def _code(*names: str) -> tuple[str, ...]:
    return tuple(f"rolegen_evals.reactivation.{name}" for name in ("protocol", "systems", *names))


BASELINES: Mapping[str, Baseline] = {
    baseline.name: baseline
    for baseline in (
        Baseline("popularity", "popularity", _same(popularity.score), popularity.GRID, _code("popularity")),
        Baseline("frequency", "personal frequency", _same(frequency.score), frequency.GRID, _code("frequency")),
        Baseline("tifu_knn", "TIFU-KNN", _same(tifu_knn.score), tifu_knn.GRID, _code("tifu_knn")),
        Baseline("item_knn", "item-kNN", _same(item_knn.score), item_knn.GRID, _code("item_knn")),
        Baseline("ease", "EASE", _same(ease.score), ease.GRID, _code("ease")),
        Baseline(
            "ranker",
            "LightGBM ranker",
            partial(ranker.scorer, ranker.obvious),
            ranker.GRID,
            _code("ranker", "ranker_features", "item_knn"),
            seeds=3,
            by_hand=ranker.BY_HAND,
        ),
        Baseline(
            "ranker_full",
            "LightGBM, backbone features",
            partial(ranker.scorer, ranker.counted),
            ranker.GRID,
            (
                *_code("ranker"),
                *(f"rolegen_backbone.{name}" for name in ("features", "events", "neighbours", "text_encoder")),
            ),
            seeds=3,
            by_hand=ranker.BY_HAND,
        ),
    )
}
LABELS: Mapping[str, str] = {
    **{name: baseline.label for name, baseline in BASELINES.items()},
    "sasrec": "SASRec (RecTools)",
    "tiger": "plain TIGER-style model",
    "rolegen": "RoleGen",
    "rolegen_no_semantic_ids": "RoleGen, no semantic ids",
    "rolegen_no_repeat": "RoleGen, no repeat mechanism",
    "rolegen_diverse": "RoleGen, diverse slates",
    "rolegen_no_candidates": "RoleGen, no candidates",
    "rolegen_no_prefix": "RoleGen, no prefix of key events",
    "guard_random": "RoleGen, random candidates",
    "guard_adversarial": "RoleGen, hostile candidates",
}
SIMPLE = ("popularity", "frequency", "tifu_knn", "item_knn", "ease", "sasrec", "tiger")
"""the class that a gain is measured against; the rankers stand apart"""


def tuned(name: str) -> Mapping[str, Any]:
    """The entry of ``tuned.json``.

    Raises:
        InputError: this baseline was never tuned.
    """
    found = json.loads(TUNED.read_text("utf-8"))
    if name not in found:
        raise InputError(
            f"baseline {name!r} was never tuned",
            where=str(TUNED),
            fix=f"run `python -m rolegen_evals.reactivation.tune {name}`",
        )
    return dict(found[name])


def lineup(*, quick: bool = False) -> dict[str, System]:
    """All systems, those that take longest last. ``quick`` makes the trained ones small."""
    systems: dict[str, System] = {}
    for name, baseline in BASELINES.items():
        chosen = tuned(name)["chosen"]
        if quick and baseline.seeds > 1:
            chosen = {
                task: {**settings, "trees": 30, "negatives": 20, "least_gap": 90} for task, settings in chosen.items()
            }
        systems[name] = baseline.system(chosen)
    if quick:
        del systems["ranker_full"]
    systems["sasrec"] = sasrec.SASRec(tuned("sasrec")["chosen"])
    systems |= rolegen.systems(quick=quick)
    return systems
