"""``rolegen bench beauty``: run the line-up, judge it, put it beside what was published."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rolegen_errors import ProjectError

from ..metrics import Interval, interval
from ..results import Result, commit, machine
from .networks import Progress
from .protocol import METRICS, Beauty, Ints, Split, judge
from .systems import Answer, answer, lineup

OURS = ("rolegen", "rolegen_dense", "rolegen_semantic")
BASELINES = ("knn", "knn_plain", "sasrec")
COMPARED = ("recall1", "recall10", "ndcg10")
QUICK_USERS = 2_000
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    # Rajput et al. 2023, "Recommender Systems with Generative Retrieval" (arXiv 2305.05065), table 1
    "tiger": {"recall5": 0.0454, "recall10": 0.0648, "ndcg5": 0.0321, "ndcg10": 0.0384},
    # Hou et al. 2025, "ActionPiece" (arXiv 2502.13581)
    "actionpiece": {"recall10": 0.0775},
    # the SASRec of RecTools, on the same data
    "sasrec_rectools": {"recall10": 0.0921},
}
"""what others report for leave-one-out on Amazon Beauty; read, not run here, and shown with ``_published`` in its name"""
HISTORY_GROUPS = ((0, 4), (5, 6), (7, 9), (10, 10_000))
TRAINING_GROUPS = ((0, 1), (2, 4), (5, 9), (10, 29), (30, 1_000_000))
"""how often the target is in the training part"""

Scores = npt.NDArray[np.float64]


def run_beauty(
    *,
    data: Path | None,
    work: Path,
    progress: Progress,
    split: Split = "test",
    quick: bool = False,
    without: Sequence[str] = (),
    seeds: int = 1,
) -> Result:
    """Run all systems but ``without`` and judge them; with ``quick`` on few users, for the shape only.

    Raises:
        ProjectError: the data are not there, or a system in ``without`` does not exist.
        InputError: the data are not what they must be.
    """
    started = time.perf_counter()
    systems = lineup(quick=quick)
    if strange := [name for name in without if name not in [system.name for system in systems]]:
        known = ", ".join(system.name for system in systems)
        raise ProjectError(f"there is no system {strange[0]!r}", fix=f"the systems are {known}")
    beauty = Beauty.read(data)
    if quick:
        beauty = beauty.first(QUICK_USERS)
    answers = {
        system.name: [
            answer(system, beauty, split, seed=seed, work=work, progress=progress)
            for seed in range(seeds if system.random else 1)
        ]
        for system in systems
        if system.name not in without
    }
    return Result(
        name="beauty",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures(beauty, split, answers),
    )


def figures(data: Beauty, split: Split, answers: Mapping[str, Sequence[Answer]]) -> dict[str, float]:
    """``test.recall10.rolegen`` and the like; ``unmasked`` holds baselines that may repeat what a user has."""
    target = data.target(split)
    judged = {
        key: _mean([judge(one.slates[key], target) for one in runs])
        for runs in answers.values()
        for key in runs[0].slates
    }
    measured = {name: by_metric for (task, name), by_metric in judged.items() if task == split}
    found: dict[str, float] = {}
    for name in (*OURS, *BASELINES):
        if name in measured:
            found |= {f"{split}.{metric}.{name}": float(measured[name][metric].mean()) for metric in METRICS}
    for name, reported in PUBLISHED.items() if split == "test" else ():
        found |= {f"{split}.{metric}.{name}_published": figure for metric, figure in reported.items()}
    for (task, name), by_metric in judged.items():
        if task != split:
            found |= {f"{task}.{metric}.{name}": float(by_metric[metric].mean()) for metric in METRICS}
    for name, by_metric in measured.items():
        for metric in COMPARED:
            found |= _bounds(f"{split}_interval", metric, name, interval(by_metric[metric]))
    rivals = [name for name in BASELINES if name in measured]
    for ours in OURS:
        for metric in COMPARED if ours in measured and rivals else ():
            best = max(rivals, key=lambda name: float(measured[name][metric].mean()))
            apart = interval(measured[ours][metric] - measured[best][metric])
            found |= _bounds(f"{split}_difference", metric, f"{ours} minus {best}", apart)
            if base := float(measured[best][metric].mean()):
                found[f"{split}_ratio.{metric}.{ours} to {best}"] = float(measured[ours][metric].mean()) / base
            if (base := float(measured.get("sasrec", measured[best])[metric].mean())) and best != "sasrec":
                found[f"{split}_ratio.{metric}.{ours} to sasrec"] = float(measured[ours][metric].mean()) / base
    found |= _errors(data, split, {name: by_metric["recall10"] for name, by_metric in measured.items()})
    for name, runs in answers.items():
        for fact in runs[0].facts:
            found[f"mixture.{fact}.{name}"] = float(np.mean([one.facts[fact] for one in runs]))
    for name, runs in answers.items():
        found[f"time.seconds.{name}"] = round(sum(one.seconds for one in runs), 1)
    return found


def _errors(data: Beauty, split: Split, recall10: Mapping[str, Scores]) -> dict[str, float]:
    """Recall@10 by length of the known history and by how often the target was learnt from."""
    target: Ints = data.target(split)
    length = np.array([len(own) for own in data.known(split)])
    learnt = np.bincount(np.concatenate(data.train), minlength=data.items)[target]
    found: dict[str, float] = {}
    for kind, count, groups in (
        ("history", length, HISTORY_GROUPS),
        ("target_in_training", learnt, TRAINING_GROUPS),
    ):
        for low, high in groups:
            inside = (count >= low) & (count <= high)
            label = f"{low}_to_{high}" if high < 10_000 else f"from_{low}"
            if inside.any():
                found[f"recall10_by_{kind}.{label}.users"] = float(inside.sum())
                found |= {
                    f"recall10_by_{kind}.{label}.{name}": float(hit[inside].mean()) for name, hit in recall10.items()
                }
    return found


def _mean(runs: Sequence[Mapping[str, Scores]]) -> dict[str, Scores]:
    """Each user's mean over seeds."""
    return {metric: np.mean([run[metric] for run in runs], axis=0) for metric in METRICS}


def _bounds(task: str, metric: str, name: str, found: Interval) -> dict[str, float]:
    figures = {f"{task}.{metric}.{name}": found.value}
    if found.low is not None and found.high is not None:
        figures |= {f"{task}.{metric}_low.{name}": found.low, f"{task}.{metric}_high.{name}": found.high}
    return figures
