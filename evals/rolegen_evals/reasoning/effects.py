"""Are the effects right? Estimates from planted logs against ``do()`` in the world that made them.

========================================  ===============================================================================
``effects.spearman.METHOD``               rank correlation with the true effects on an order over all (item, state), mean of the seeds
``effects.in_state.METHOD``               the same within each state, mean of the states
``effects.sign_accuracy.METHOD``          share of right signs where the true effect is clear (above 0.02 and two standard errors)
``effects.seeds_won.dr``                  share of seeds in which DR ranks better than every rival that knows no state
``effects.covers.dr``                     share of 90 % intervals that hold the true effect (itself known with an error)
``effects.holds.dr``                      the same, allowing for the error of what it is held against
``effects.incidental_covers_0.dr``        share of the intervals of incidental items that hold 0, which is not quite their effect against the typical item's
``effects.incidental_covers_0_at_95.dr``  the same of 95 % intervals
``effects.incidental_holds.dr``           share of them that hold the true effect, allowing for its error
========================================  ===============================================================================

``unseen`` has the same figures in the world on which nothing was tuned. Methods: ``dr`` with logged propensities, ``dr_modelled``
without them, ``permuted`` is ``dr`` with its effects handed to other items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import numpy as np
import polars as pl
from scipy import special, stats

from rolegen_agent.evidence.effects import effects
from rolegen_agent.evidence.followed import ordered_within
from rolegen_agent.evidence.log import read_log
from rolegen_agent.evidence.options import EvidenceOptions
from rolegen_agent.evidence.shrink import Z
from rolegen_agent.evidence.states import STATES
from rolegen_agent.evidence.units import read_units
from rolegen_errors import InputError

from ..worlds import WORLDS, Knobs, Shop, plant, true_effects
from .attribution import RIVALS, Observed

CLEAR = 0.02
Z_95 = float(special.ndtri(0.975))
STATELESS = ("naive", "last_touch", "click_rate", "markov_removal")
Progress = Callable[[str, int, int], None]


def options_of(shop: Shop) -> EvidenceOptions:
    """The windows that fit a shop whose needs last days, not months."""
    return EvidenceOptions(
        active_days=shop.active_days,
        horizon_days=shop.horizon_days,
        complement_days=10.0,
        return_days=30.0,
        rebuy_days=30.0,
    )


def effect_figures(
    task: str, world: str, *, seeds: int, users: int, moments: int, knobs: Knobs, progress: Progress
) -> dict[str, float]:
    """Mean figures over the seeds, by ``task.metric.method``."""
    rounds = []
    for seed in range(seeds):
        rounds.append(one_seed(world, seed, users, moments, knobs))
        progress(f"effects, {world}", seed + 1, seeds)
    found: dict[str, float] = {}
    for metric, method in rounds[0]:
        values = [one[metric, method] for one in rounds]
        found[f"{task}.{metric}.{method}"] = float(np.mean(values))
        if metric == "spearman" and method == "dr":
            found[f"{task}.spearman_worst.dr"] = float(np.min(values))
    won = [all(one["spearman", "dr"] > one["spearman", rival] for rival in STATELESS) for one in rounds]
    return found | {f"{task}.seeds_won.dr": float(np.mean(won)), f"{task}.seeds.dr": float(seeds)}


def one_seed(world: str, seed: int, users: int, moments: int, knobs: Knobs) -> Mapping[tuple[str, str], float]:
    """Figures of one planted log by (metric, method)."""
    shop = WORLDS[world].open(seed, knobs)
    truth = _centred(true_effects(shop, moments=moments, seed=seed).filter(pl.col("outcome") == "order"))
    planted = plant(shop, users, seed=seed)
    options = options_of(shop)
    log = read_log(planted.events, planted.items, at=planted.end)
    units = read_units(log, options)
    if units is None:
        raise InputError("the planted log is too short for its horizon", fix="raise Knobs.days")
    seen = Observed(log, units, ordered_within(units.frame, log, timedelta(days=options.horizon_days)))
    estimated = effects(log, options)[0].filter(pl.col("outcome") == "order")
    blind = read_log(planted.events.drop("propensity"), planted.items, at=planted.end)
    scores = {
        "dr": estimated.select("item", "state", score="value"),
        "dr_modelled": effects(blind, options)[0]
        .filter(pl.col("outcome") == "order")
        .select("item", "state", score="value"),
        "permuted": _permuted(estimated, seed),
    }
    scores |= {name: _named(rival(seen), log.items) for name, rival in RIVALS.items()}
    found: dict[tuple[str, str], float] = {}
    for name, score in scores.items():
        cells = truth.join(_centred_score(score), on=["item", "state"], how="inner")
        found["spearman", name] = _rank(cells)
        by_state = [_rank(part) for part in cells.partition_by("state") if part.height > 2]
        found["in_state", name] = float(np.mean(by_state))
        clear = cells.filter(pl.col("effect").abs() > CLEAR, pl.col("effect").abs() > 2 * pl.col("error"))
        right = np.sign(clear["effect"].to_numpy()) == np.sign(clear["score"].to_numpy())
        found["sign_accuracy", name] = float(right.mean())
    both = truth.join(
        estimated.select("item", "state", "low", "high", "value", spread="error"), on=["item", "state"], how="inner"
    )
    apart = (pl.col("value") - pl.col("effect")).abs()
    holds = apart <= Z * (pl.col("spread").pow(2) + pl.col("error").pow(2)).sqrt()
    found["covers", "dr"] = _share(both, (pl.col("low") <= pl.col("effect")) & (pl.col("effect") <= pl.col("high")))
    idle = both.filter(pl.col("role") == "incidental")
    found["incidental_covers_0", "dr"] = _share(idle, (pl.col("low") <= 0) & (pl.col("high") >= 0))
    wide = pl.col("value").abs() <= Z_95 * pl.col("spread")
    found["incidental_covers_0_at_95", "dr"] = _share(idle, wide)
    found["holds", "dr"], found["incidental_holds", "dr"] = _share(both, holds), _share(idle, holds)
    return found


def _centred(truth: pl.DataFrame) -> pl.DataFrame:
    """Effects count from the typical item of the state, as those of the evidence do."""
    return truth.with_columns(effect=pl.col("effect") - pl.col("effect").median().over("state"))


def _centred_score(score: pl.DataFrame) -> pl.DataFrame:
    return score.with_columns(score=pl.col("score") - pl.col("score").median().over("state"))


def _named(score: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    """From codes to ids and names of states."""
    return score.join(items.select(item="code", id="item"), on="item").select(
        item="id", state=pl.col("state").replace_strict(dict(enumerate(STATES)), return_dtype=pl.String), score="score"
    )


def _permuted(estimated: pl.DataFrame, seed: int) -> pl.DataFrame:
    items = estimated["item"].unique().sort()
    other = items.to_numpy()[np.random.default_rng([seed, 4]).permutation(len(items))]
    return estimated.select(
        item=pl.col("item").replace_strict(dict(zip(items, other, strict=True)), return_dtype=pl.String),
        state="state",
        score="value",
    )


def _rank(cells: pl.DataFrame) -> float:
    score = cells["score"].to_numpy()
    return 0.0 if np.ptp(score) == 0 else float(stats.spearmanr(cells["effect"].to_numpy(), score).statistic)


def _share(cells: pl.DataFrame, true: pl.Expr) -> float:
    return float(cells.select(true.mean()).item())
