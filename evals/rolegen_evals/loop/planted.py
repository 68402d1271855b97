"""Orders in planted shops: static policies and our own arms, in the same towns under the same luck.

*Baselines* learn from the log before the first round and have their settings, and the best of them its place as ``static_best``, from validation
seeds of the same world, never from the seeds that are reported. Everybody is judged on the same users of the control group at the last date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rolegen_agent.evidence.options import EvidenceOptions
from rolegen_agent.evidence.states import STATES

from ..worlds import WORLDS, Knobs, true_effects
from .past import Past
from .policies import BASELINES, EFFECTS, Answer, Baseline, from_cells
from .product import ARMS, DORMANT_DAYS, HORIZON_DAYS, Arm, live, prepare
from .rounds import FIRST_DAY, ROUND_DAYS, Plan, Slates, dormant, live_by
from .town import SIZE, Town

Progress = Callable[[str, int, int], None]
VALIDATION_SEEDS = (1001, 1002)
PACE = 3.0
"""weeks instead of days, as the default windows of a project take it"""
OURS: Mapping[str, Arm] = {arm.name: arm for arm in ARMS}
Chosen = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Value:
    """What one policy came to in one town."""

    judged: list[float]
    """net orders of each judged user, mean of the replayed futures"""
    lived: float | None
    """net orders of all treated users since the first round, for 1,000 of them"""
    by_round: list[float]


def settle(world: str, seed: int, plan: Plan) -> Town:
    """The town at the first round."""
    shop = WORLDS[world].open(seed, Knobs(breadth=plan.breadth, pace=PACE))
    town = Town.open(shop, treated=plan.treated, control=plan.control, seed=seed)
    town.live(FIRST_DAY)
    return town


def past_of(town: Town) -> Past:
    return Past(town.events(), town.shop.goods.frame(), town.at, EvidenceOptions())


def validate(world: str, plan: Plan, *, seeds: tuple[int, ...] = VALIDATION_SEEDS) -> dict[str, Any]:
    """Settings of each baseline with the most orders of the control group at the last date, and that number of orders.

    Returns:
        ``settings``: name -> settings, ``orders``: name -> net orders for 1,000 judged users.
    """
    tried: dict[tuple[str, int], list[float]] = {}
    for seed in seeds:
        town = settle(world, seed, plan)
        first = past_of(town)
        fitted = [
            (one, k, one.fit(grid, first, seed)) for one in (*BASELINES, EFFECTS) for k, grid in enumerate(one.grid)
        ]
        town.live(FIRST_DAY + plan.rounds * ROUND_DAYS)
        users, now = plan.judged(town, dormant(town, DORMANT_DAYS)), past_of(town)
        for one, k, answer in fitted:
            slates = one.slates(answer, now, users, SIZE)
            tried.setdefault((one.name, k), []).append(1000 * float(town.replay(slates, users, HORIZON_DAYS).mean()))
        tried.setdefault(("logging", 0), []).append(1000 * float(town.replay(None, users, HORIZON_DAYS).mean()))
    mean = {key: float(np.mean(values)) for key, values in tried.items()}
    best = {name: max((k for other, k in mean if other == name), key=lambda k: mean[name, k]) for name, _ in mean}
    grids = {one.name: one.grid for one in (*BASELINES, EFFECTS)}
    return {
        "settings": {name: dict(grids[name][k]) for name, k in best.items() if name in grids},
        "orders": {name: mean[name, k] for name, k in best.items()},
    }


def static_values(world: str, seed: int, plan: Plan, chosen: Chosen, *, moments: int) -> dict[str, Value]:
    """All static policies in the town of a seed, what they would be with fresh data, and the ceiling of true effects."""
    town = settle(world, seed, plan)
    first, found = past_of(town), {}
    found["logging"] = _lived(town, plan, lambda there, users: None)
    for one in (*BASELINES, EFFECTS):
        answer = one.fit(chosen[one.name], first, seed)
        found[one.name] = _lived(town, plan, _asking(one, answer))
        if one.name in ("ranker", "item_knn", "effects"):
            found[f"{one.name}_refitted"] = _lived(town, plan, _refitting(one, chosen[one.name], seed))
    found["true_effects"] = _lived(town, plan, _truth(town, moments, seed))
    return found


def our_value(
    arm: str, world: str, seed: int, plan: Plan, folder: Path, training: Mapping[str, object], progress: Progress
) -> dict[str, Value]:
    """One of our arms in the town of a seed, and beside the arm that does not improve the first backbone's slates without reasoning."""
    town, base = settle(world, seed, plan), folder / "base"
    if not (base / "ready").exists():
        prepare(base, town, training, progress)
        (base / "ready").touch()
    lived = live(OURS[arm], base, folder / arm, town, plan, training, progress)
    users = list(lived.slates)
    orders = lived.town.orders(FIRST_DAY)
    found = {arm: Value(lived.town.replay(lived.slates, users, HORIZON_DAYS).tolist(), orders, lived.by_round)}
    if arm == "no_improve":
        alone = lived.town.replay(lived.without_reasoning, users, HORIZON_DAYS)
        found["backbone"] = Value(alone.tolist(), None, [])
    return found


def _lived(town: Town, plan: Plan, decide: Callable[[Town, list[str]], Slates | None]) -> Value:
    end, by_round = live_by(decide, town, plan, dormant_days=DORMANT_DAYS, horizon=HORIZON_DAYS)
    users = plan.judged(end, dormant(end, DORMANT_DAYS))
    judged = end.replay(decide(end, users), users, HORIZON_DAYS)
    return Value(judged.tolist(), end.orders(FIRST_DAY), by_round)


def _asking(one: Baseline, answer: Answer) -> Callable[[Town, list[str]], Slates]:
    return lambda town, users: one.slates(answer, past_of(town), users, SIZE)


def _refitting(one: Baseline, settings: Mapping[str, Any], seed: int) -> Callable[[Town, list[str]], Slates]:
    """The same learning, done anew at each date from the log so far."""

    def decide(town: Town, users: list[str]) -> Slates:
        now = past_of(town)
        return one.slates(one.fit(settings, now, seed), now, users, SIZE)

    return decide


def _truth(town: Town, moments: int, seed: int) -> Callable[[Town, list[str]], Slates]:
    """Greedy by the true effect of one showing in the visible state: what estimates of such effects could reach at best."""
    true = true_effects(town.shop, moments=moments, seed=seed).filter(pl.col("outcome") == "order")
    cells: dict[tuple[str, str], float] = {
        (item, state): e for item, state, e in true.select("item", "state", "effect").iter_rows()
    }

    def decide(there: Town, users: list[str]) -> Slates:
        now = past_of(there)
        table = np.array([[cells.get((item, state), 0.0) for item in now.ids] for state in STATES])
        return EFFECTS.slates(from_cells(table), now, users, SIZE)

    return decide
