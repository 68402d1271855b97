"""All of ``rolegen bench loop``: orders in planted shops after rounds of decide, outcome and improve, and a monthly replay of a real log.

=====================================  ==============================================================================
``orders_per_1000.WORLD.POLICY``       net orders within 40 days for 1,000 dormant users of the control group, judged after the last round:
                                       mean of the seeds; ``orders_low`` and ``orders_high`` its 95 % interval (t, over seeds)
``gain_percent.WORLD.RIVAL``           what ``rolegen`` has more than the rival, in % of the rival, with ``gain_low`` and ``gain_high``: paired by
                                       seed, the rival's mean taken as known
``lived_per_1000.WORLD.POLICY``        all net orders of all treated users over all rounds, for 1,000 of them, dormant or not
``by_round.WORLD.POLICY@ROUND``        as the first, of the treated users that the policy itself had left dormant: no comparison
``validation.WORLD.BASELINE``          what ``static_best`` was chosen by
``replay.hit1.loop`` ``…frozen``       see :mod:`rolegen_evals.loop.replay`
=====================================  ==============================================================================

``planted`` is the world that everything is developed on, ``unseen`` one on which nothing of ours was tuned (the baselines were: each has the settings
that are best there). ``NAME_refitted`` is a baseline that learns anew from the log at every date, ``effects`` the greatest doubly robust effect of our evidence,
``true_effects`` the same with the true ones. Finished parts are kept in the work folder under a digest of the code that made them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..reactivation.systems import code_of
from ..reasoning.benchmark import Parts
from ..results import Result, commit, machine
from .planted import OURS, our_value, static_values, validate
from .policies import BASELINES
from .product import Arm
from .replay import ALL, Months, prepare_log, replay, replay_figures
from .replay import ARMS as MONTHLY
from .rounds import Plan

Progress = Callable[[str, int, int], None]
SEEDS = 5
WORLDS: Mapping[str, str] = {"planted": "staged", "unseen": "pressed"}
FULL = Plan(treated=800, control=2200, decided_most=120, judged_most=240, rounds=6, breadth=2)
QUICK = Plan(treated=100, control=300, decided_most=8, judged_most=20, rounds=1, breadth=1)
QUICK_MONTHS = Months(first=ALL.first, count=2, drawn=5, judged=5, one_in=30)
TRAINING: Mapping[str, object] = {
    "epochs": 2,
    "max_returns": 1_500,
    "max_hints": 100,
    "max_read": 200,
    "max_spells": 1_000,
}
QUICK_TRAINING: Mapping[str, object] = {
    "epochs": 1,
    "width": 16,
    "layers": 1,
    "codebook": 16,
    "max_returns": 150,
    "max_hints": 10,
    "max_read": 20,
    "max_spells": 100,
}
QUICK_ARMS = ("rolegen", "no_improve")
STATIC_CODE = ("rolegen_evals.loop", "rolegen_evals.worlds", "rolegen_agent.evidence")
OUR_CODE = (*STATIC_CODE, "rolegen_agent", "rolegen_graphs", "rolegen_backbone", "rolegen_prompts")


def run_loop(*, work: Path, progress: Progress, quick: bool, seeds: int | None) -> Result:
    """Measure everything; finished parts are read back."""
    started = time.perf_counter()
    parts, plan, training = Parts(work), QUICK if quick else FULL, QUICK_TRAINING if quick else TRAINING
    count = seeds or (1 if quick else SEEDS)
    figures: dict[str, float] = {}
    for name, world in WORLDS.items():
        if quick and name == "unseen":
            continue  # the same code with other mechanisms
        chosen = parts.once(
            f"{name}-validation",
            STATIC_CODE,
            (world, plan),
            partial(validate, world, plan, seeds=(1001,) if quick else (1001, 1002)),
        )
        rounds: list[dict[str, Any]] = []
        for seed in range(count):
            rounds.append(_one_seed(parts, work, name, world, seed, plan, chosen["settings"], progress, quick=quick))
            progress(f"shops, {name}", seed + 1, count)
        figures |= planted_figures(name, rounds, chosen["orders"])
    figures |= replay_figures(_replayed(parts, work, QUICK_MONTHS if quick else ALL, training, progress))
    return Result(
        name="loop",
        commit=commit(),
        machine=machine(),
        seconds=round(time.perf_counter() - started, 1),
        figures=figures,
    )


def _one_seed(
    parts: Parts,
    work: Path,
    name: str,
    world: str,
    seed: int,
    plan: Plan,
    settings: Mapping[str, Any],
    progress: Progress,
    *,
    quick: bool,
) -> dict[str, Any]:
    """Everybody's :class:`Value` in one town, by policy, as plain dictionaries."""
    found: dict[str, Any] = parts.once(
        f"{name}-{seed}-static",
        STATIC_CODE,
        (world, plan, settings),
        lambda: _plain(static_values(world, seed, plan, settings, moments=20 if quick else 200)),
    )
    training = QUICK_TRAINING if quick else TRAINING
    # A memory of other code must not answer for this one: its decisions would be taken for finished.
    folder = work / f"towns-{code_of(OUR_CODE)[:12]}" / f"{name}-{seed}-{'quick' if quick else 'full'}"
    for arm in QUICK_ARMS if quick else OURS:
        found |= parts.once(
            f"{name}-{seed}-{arm}",
            OUR_CODE,
            (world, plan, training),
            partial(_ours, arm, world, seed, plan, folder, training, progress),
        )
    return found


def _replayed(
    parts: Parts, work: Path, months: Months, training: Mapping[str, object], progress: Progress
) -> dict[str, dict[str, Any]]:
    """The cases of the monthly replay by arm."""
    folder = (
        work / f"months-{code_of(OUR_CODE)[:12]}" / f"{months.count}-{months.drawn}-{months.judged}-{months.one_in}"
    )
    base = folder / "base"

    def measure(arm: Arm) -> dict[str, Any]:
        if not (base / "ready").exists():
            prepare_log(base, months, training, progress)
            (base / "ready").touch()
        return replay(arm, base, folder / arm.name, months, training, progress)

    return {
        arm.name: parts.once(f"replay-{arm.name}", OUR_CODE, (months, training), partial(measure, arm))
        for arm in MONTHLY
    }


def _ours(
    arm: str, world: str, seed: int, plan: Plan, folder: Path, training: Mapping[str, object], progress: Progress
) -> dict[str, Any]:
    return _plain(our_value(arm, world, seed, plan, folder, training, progress))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) for name, value in values.items()}


def planted_figures(name: str, seeds: list[dict[str, Any]], validated: Mapping[str, float]) -> dict[str, float]:
    """Figures of one world from each seed's values by policy."""
    best = max((one.name for one in BASELINES), key=lambda one: validated[one])
    if validated["logging"] > validated[best]:
        best = "logging"
    means = {policy: np.array([1000 * float(np.mean(one[policy]["judged"])) for one in seeds]) for policy in seeds[0]}
    means["static_best"] = means[best]
    figures: dict[str, float] = {f"loop.seeds.{name}": float(len(seeds))}
    figures[f"loop.users.{name}"] = float(sum(len(one["rolegen"]["judged"]) for one in seeds))
    first = [one for one in ("rolegen", "static_best", "no_reflection", "no_improve", "neither") if one in means]
    order = [*first, *(policy for policy in means if policy not in first)]
    for policy in order:
        figures[f"orders_per_1000.{name}.{policy}"] = float(means[policy].mean())
        figures |= _between(f"orders_%s.{name}.{policy}", means[policy], 1.0)
    for rival in order[1:]:
        usual = float(means[rival].mean())
        if usual > 0:  # a share of nothing says nothing
            gain = means["rolegen"] - means[rival]
            figures[f"gain_percent.{name}.{rival}"] = 100 * float(gain.mean()) / usual
            figures |= _between(f"gain_%s.{name}.{rival}", gain, 100 / usual)
    for policy in seeds[0]:
        lived = [one[policy]["lived"] for one in seeds]
        if all(value is not None for value in lived):
            figures[f"lived_per_1000.{name}.{policy}"] = float(np.mean(lived))
        rounds = np.mean([one[policy]["by_round"] for one in seeds], axis=0)
        figures |= {f"by_round.{name}.{policy}@{number + 1}": float(value) for number, value in enumerate(rounds)}
    figures |= {f"validation.{name}.{policy}": value for policy, value in validated.items()}
    return figures


def _between(key: str, values: Any, scale: float) -> dict[str, float]:
    """The 95 % interval of a mean over seeds by Student's t, where there are two seeds that differ."""
    if len(values) < 2 or np.ptp(values) == 0:
        return {}
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return {key % "low": scale * float(low), key % "high": scale * float(high)}
