"""Tune the baselines on the validation period: ``python -m rolegen_evals.reactivation.tune [NAME ...]``.

Every baseline gets the same effort: twelve settings, the whole grid where it is no larger, otherwise drawn at random
(seed 0), and for each task the one with the best hit@1 + NDCG@10 is kept. A ranker's first setting is one that was set by
hand. SASRec, whose trials take minutes, gets fewer.
Nothing on or after 2011-05-01 is loaded. Every trial is written to ``tuned.json`` beside this file, and one that stands there is
not run again: delete a baseline's entry to tune it anew, which a change of its code calls for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console

from rolegen_errors import InputError

from . import sasrec
from .judge import RANKING, Catalogue, judge
from .lineup import BASELINES, TUNED
from .protocol import TASKS, VALIDATION, Shop
from .run import bundled, slates_of
from .systems import System

SLOW_TRIALS = 6


def trials(grid: Mapping[str, list[Any]], count: int, by_hand: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """``count`` distinct settings: those set by hand, if any, then of a grid, all of them where it has no more."""
    every = list(product(*grid.values()))
    order = range(len(every)) if len(every) <= count else np.random.default_rng(0).permutation(len(every))
    drawn = (dict(zip(grid, every[row], strict=True)) for row in order)
    first = [dict(by_hand)] if by_hand is not None else []
    return first + list(islice((one for one in drawn if one not in first), count - len(first)))


def tune(name: str, shop: Shop, folder: Path, console: Console) -> None:
    """Try what ``tuned.json`` does not hold yet of one baseline, and write it after every trial."""
    if name == "sasrec":
        wanted = trials(sasrec.GRID, SLOW_TRIALS)
    else:
        wanted = trials(BASELINES[name].grid, BASELINES[name].trials, BASELINES[name].by_hand)
    catalogue = Catalogue.of(shop.past(shop.period.dates[-1]).items)
    tried = [one for one in _read().get(name, {}).get("trials", []) if one["settings"] in wanted]
    for settings in wanted:
        if any(one["settings"] == settings for one in tried):
            continue
        started = time.perf_counter()
        system: System = (
            sasrec.SASRec(settings) if name == "sasrec" else BASELINES[name].system(dict.fromkeys(TASKS, settings))
        )
        slates = slates_of(system, shop, seed=0, folder=folder, progress=lambda stage, done, total: None)
        judged = judge(shop.cases, [slates], catalogue)
        figures = {task: {m: round(float(judged[task].cases[m].mean()), 4) for m in RANKING} for task in TASKS}
        tried.append({"settings": settings, "figures": figures})
        tried.sort(key=lambda one: wanted.index(one["settings"]))
        TUNED.write_text(json.dumps(_read() | {name: _entry(name, tried)}, indent=1) + "\n", encoding="utf-8")
        seconds = time.perf_counter() - started
        console.print(f"{name} {settings} {figures} {seconds:.0f} s", markup=False, soft_wrap=True)


def _entry(name: str, tried: list[dict[str, Any]]) -> dict[str, Any]:
    """What ``tuned.json`` says of a baseline: the choice, its figures on validation, and all trials."""
    if name == "sasrec":  # one model serves both tasks
        both = max(tried, key=lambda one: sum(_objective(one["figures"][task]) for task in TASKS))
        return {"chosen": both["settings"], "validation": both["figures"], "trials": tried}
    best = {task: max(tried, key=lambda one, task=task: _objective(one["figures"][task])) for task in TASKS}  # type: ignore[misc]
    return {
        "chosen": {task: best[task]["settings"] for task in TASKS},
        "validation": {task: best[task]["figures"][task] for task in TASKS},
        "trials": tried,
    }


def _read() -> dict[str, Any]:
    return dict(json.loads(TUNED.read_text("utf-8"))) if TUNED.exists() else {}


def _objective(figures: Mapping[str, float]) -> float:
    return figures["hit1"] + figures["ndcg10"]


def main(names: list[str]) -> None:
    """Tune the named baselines, or all; a stopped run goes on."""
    known = [*BASELINES, "sasrec"]
    if strange := [name for name in names if name not in known]:
        raise InputError(f"there is no baseline {strange[0]!r} to tune", fix=f"the baselines are {', '.join(known)}")
    console = Console(highlight=False)
    with TemporaryDirectory() as folder:
        shop = Shop(*bundled(Path(folder)), VALIDATION)
        for name in names or known:
            tune(name, shop, Path(folder), console)
            kept = _read()[name]
            console.print(f"{name}: {kept['chosen']} {kept['validation']}", style="bold", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
