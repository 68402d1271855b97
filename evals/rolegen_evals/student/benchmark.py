"""How much of a teacher's gain a student keeps, in planted shops that it was not tuned on.

==================================  =====================================================================================
``TEACHER.hit1.SYSTEM``             of dormant users who came back, at dates after all that was learnt; ``alone`` is the backbone without
                                    reasoning, ``recall10`` likewise
``TEACHER.gain.hit1``               teacher less alone, with ``gain_low`` and ``gain_high``: 95 %, users resampled with all their decisions
``TEACHER.gain_share.hit1``         (student - alone) / (teacher - alone), with its interval ``gain_share_low`` and ``gain_share_high``
``TEACHER.roles.agreement``         of events that both labelled, those with the same role; ``macro_f1`` of each against the planted roles
``TEACHER.cost.ms.SYSTEM``          processor time of labels and paths of one decision; ``cost.llm_calls`` of the student's run
==================================  =====================================================================================

Teachers are the evidence reasoner and ``planted``, which knows the hidden need (``teachers.py``). Settings were chosen with ``--validation``, on other seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..reactivation.systems import code_of
from ..reasoning.benchmark import Parts
from ..results import Result, commit, machine
from .teachers import NAME
from .trial import TRAINING, Rows, Size, measure, prepare

TEACHERS = ("evidence", NAME)
SYSTEMS = ("alone", "teacher", "student")
SEEDS, VALIDATION = (0, 1, 2), (1001, 1002)
WORLD = "staged"
FULL = Size(users=10_000, taught=400, asked=300, training=TRAINING)
SMALL = Size(
    users=500,
    taught=60,
    asked=30,
    fewest=20,
    training={
        "epochs": 1,
        "max_returns": 300,
        "max_hints": 40,
        "max_read": 60,
        "max_spells": 300,
        "width": 16,
        "layers": 1,
    },
)
RESAMPLES = 2_000
CODE = (
    "rolegen_backbone",
    "rolegen_graphs",
    "rolegen_agent.reasoning",
    "rolegen_agent.evidence",
    "rolegen_agent.grounding",
    "rolegen_evals.worlds",
    "rolegen_evals.student",
)
Floats = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]


def run_student(*, work: Path, progress: Progress, quick: bool, validation: bool, seeds: int | None) -> Result:
    """Measure everything; finished shops and teachers are kept in ``work``."""
    started = time.perf_counter()
    size = SMALL if quick else FULL
    chosen = (VALIDATION if validation else SEEDS)[: seeds or (1 if quick else None)]
    parts, digest = Parts(work), code_of(CODE)[:12]
    found: dict[str, list[Mapping[str, Rows]]] = {teacher: [] for teacher in TEACHERS}
    for seed in chosen:
        for teacher in TEACHERS:
            measured = parts.once(
                f"{teacher}-{seed}",
                CODE,
                (size, seed),
                partial(_measure, work / f"shop-{seed}-{digest}", seed, size, teacher, progress),
            )
            found[teacher].append(measured)
    figures: dict[str, float] = {}
    for teacher, some in found.items():
        figures |= {f"{teacher}.{name}": value for name, value in figures_of(some).items()}
    return Result(
        name="student",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _measure(folder: Path, seed: int, size: Size, teacher: str, progress: Progress) -> dict[str, Rows]:
    return measure(prepare(folder, WORLD, seed, size, progress), teacher, progress)


def figures_of(shops: Sequence[Mapping[str, Rows]]) -> dict[str, float]:
    """Means over all decisions of all shops, intervals over users, and the shops' mean of everything else."""
    found: dict[str, float] = {}
    user, rows = _together(shops)
    found["asked.all"] = float(len(user))
    for metric in ("hit1", "recall10"):
        columns = {system: rows[f"{metric}.{system}"] for system in SYSTEMS}
        found |= {f"{metric}.{system}": float(column.mean()) for system, column in columns.items()}
        gain, kept = (columns[system] - columns["alone"] for system in ("teacher", "student"))
        drawn = _resampled(user, np.stack([gain, kept]))
        found[f"gain.{metric}"] = float(gain.mean())
        found[f"gain_low.{metric}"], found[f"gain_high.{metric}"] = _bounds(drawn[0])
        found[f"kept.{metric}"] = float(kept.mean())
        found[f"kept_low.{metric}"], found[f"kept_high.{metric}"] = _bounds(drawn[1])
        lost = drawn[1] - drawn[0]
        found[f"difference.{metric}"] = float(kept.mean() - gain.mean())
        found[f"difference_low.{metric}"], found[f"difference_high.{metric}"] = _bounds(lost)
        if gain.mean() > 0:
            found[f"gain_share.{metric}"] = float(kept.mean() / gain.mean())
            # Of resamples without a gain no share can be told; while they are rare, they count as the worst.
            share = np.where(drawn[0] > 0, drawn[1] / np.where(drawn[0] > 0, drawn[0], 1.0), -np.inf)
            low, high = _bounds(share)
            found |= {f"gain_share_low.{metric}": low, f"gain_share_high.{metric}": high} if np.isfinite(low) else {}
    for name in shops[0]["facts"]:
        values = [shop["facts"][name][0] for shop in shops if name in shop["facts"]]
        found[name] = float(np.mean(values))
    return found


def _together(shops: Sequence[Mapping[str, Rows]]) -> tuple[npt.NDArray[np.int64], dict[str, Floats]]:
    """The users (N,) of all shops, numbered so that none meet, and the columns (N,)."""
    users, begin = [], 0
    for shop in shops:
        here = np.asarray(shop["asked"]["user"], np.int64)
        users.append(here + begin)
        begin += int(here.max(initial=-1)) + 1
    names = [name for name in shops[0]["asked"] if name != "user"]
    columns = {name: np.concatenate([np.asarray(shop["asked"][name]) for shop in shops]) for name in names}
    return np.concatenate(users), columns


def _resampled(user: npt.NDArray[np.int64], values_KN: Floats) -> Floats:
    """(K, RESAMPLES) means of K columns over users drawn with all of their rows."""
    _, place = np.unique(user, return_inverse=True)
    U = int(place.max()) + 1
    total = np.stack([np.bincount(place, weights=column, minlength=U) for column in values_KN])
    count = np.bincount(place, minlength=U)
    weight = np.random.default_rng(0).multinomial(U, np.full(U, 1 / U), size=RESAMPLES)
    drawn: Floats = (total @ weight.T) / (weight @ count)
    return drawn


def _bounds(drawn: Floats) -> tuple[float, float]:
    low, high = np.quantile(drawn, [0.025, 0.975], method="nearest")
    return float(low), float(high)
