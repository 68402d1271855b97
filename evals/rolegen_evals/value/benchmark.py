"""``rolegen bench value``: are off-policy estimates right where the truth is known?

=================================  ======================================================================================
``WORLD_POLICY.value.ESTIMATOR``   mean over the seeds; the systems ``truth`` and ``logged`` stand beside the estimators
``WORLD_POLICY.error.ESTIMATOR``   mean absolute error, as a share of the true value
``WORLD_POLICY.holds.ESTIMATOR``   share of the seeds whose 95 % interval holds the truth
``WORLD_POLICY.effective.all``     effective sample size at the weakest place, mean over the seeds
``bandit_…``                       the Open Bandit Dataset: estimate from the other policy's log; ``own`` is what the policy itself brought
=================================  ======================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from rolegen_agent.value import Value

from ..results import Result, commit, machine
from .open_bandit import open_bandit_values
from .planted import shop_values, slate_values

SEEDS, USERS, TRUTH_USERS, SLATES = 10, 10_000, 30_000, 4_000
TEMPERATURE = 0.5
Progress = Callable[[str, int, int], None]


def run_value(*, data: Path | None, quick: bool, seeds: int | None, progress: Progress) -> Result:
    """Measure everything; ``data`` is a folder that holds ``open_bandit``, without which that part is left out."""
    started = time.perf_counter()
    count = seeds or (2 if quick else SEEDS)
    users, truth_users, slates = (2_000, 6_000, 500) if quick else (USERS, TRUTH_USERS, SLATES)
    judged: dict[str, list[tuple[Value, float]]] = {}
    for seed in range(count):
        progress("planted", seed, count)
        for world in ("staged", "pressed"):
            for policy, pair in shop_values(world, users=users, truth_users=truth_users, seed=seed).items():
                judged.setdefault(f"{world}_{policy}", []).append(pair)
        for policy, pair in slate_values(users=slates, temperature=TEMPERATURE, seed=seed).items():
            judged.setdefault(f"slate_{policy}", []).append(pair)
    progress("planted", count, count)
    figures: dict[str, float] = {}
    for task, pairs in judged.items():
        figures |= _figures(task, pairs)
    if data is not None:
        figures |= _open_bandit(data / "open_bandit")
    return Result(
        name="value",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _figures(task: str, pairs: Sequence[tuple[Value, float]]) -> dict[str, float]:
    truth = np.array([true for _, true in pairs])
    found = {
        f"{task}.value.truth": float(truth.mean()),
        f"{task}.value.logged": float(np.mean([value.logged.value for value, _ in pairs])),
    }
    for name in pairs[0][0].estimates:
        estimates = [value.estimates[name] for value, _ in pairs]
        values = np.array([one.value for one in estimates])
        found[f"{task}.value.{name}"] = float(values.mean())
        found[f"{task}.error.{name}"] = float(np.mean(np.abs(values - truth) / truth))
        inside = [
            one.low is not None and one.high is not None and one.low <= true <= one.high
            for one, true in zip(estimates, truth, strict=True)
        ]
        found[f"{task}.holds.{name}"] = float(np.mean(inside))
    found[f"{task}.effective.all"] = float(np.mean([min(value.effective) for value, _ in pairs]))
    return found


def _open_bandit(folder: Path) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, (value, own) in open_bandit_values(folder).items():
        for system, one in (("own", own), *value.estimates.items()):
            figures[f"bandit_{name}.value.{system}"] = one.value
            if one.low is not None and one.high is not None:
                figures[f"bandit_{name}.low.{system}"] = one.low
                figures[f"bandit_{name}.high.{system}"] = one.high
        figures[f"bandit_{name}.effective.all"] = value.effective[0]
    return figures
