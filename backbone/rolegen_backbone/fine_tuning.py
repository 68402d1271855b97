"""A trained backbone goes on learning: from what happened since, and from what came of its own decisions.

1. *Taste* goes on from the old weights at a low rate, over the returns since the old cut and as many before it, so that the
   new is learnt and the old not forgotten. What is kept lies between the old and the new weights (WiSE-FT: Wortsman et al. 2022,
   arXiv 2109.01903): few new returns should not move a model far, and no second pass through the old model is needed, as a
   divergence would ask for.
2. *Trust*: the candidate part learns from real decisions, by reasoner: the candidates that it reasoned then, and what was ordered.
   Guard and kept-out users are those of ``candidate_training.py``. A reasoner with too few of them keeps what it had.
3. *Outcome*: the heads and their calibration, on all decisions of the log, delayed ones weighed.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rolegen_errors import FutureError

from .artefact import TrainedBackbone
from .candidate_training import fit_candidates
from .events import DAY, Baskets, EventLog, Ints, seconds
from .examples import Decision, Hint, returns
from .features import Features
from .model import Backbone
from .outcome_training import fit_outcome
from .taste_training import fit_taste, taste_weights
from .training import Progress, TrainConfig, outcome_spells

LEAST_REAL = 40
"""real decisions with candidates and an order, below which a reasoner's trust is not learnt anew"""


@dataclass(frozen=True)
class Reasoned:
    """A real decision, what was reasoned then, and what was ordered: what trust in a reasoner is learnt from."""

    user: int
    """index in the log"""
    at: int
    """Unix second"""
    hint: Hint
    ordered: Ints
    """item indices"""


@dataclass(frozen=True)
class TuneConfig:
    """How far an update may go."""

    epochs: int = 1
    """passes over the returns; 0 leaves taste as it is"""
    rate: float = 0.2
    """learning rate, as a share of the training's peak"""
    step: float = 0.5
    """how far the weights go from the old ones to the tuned ones, in (0, 1]"""
    returns: int = 2_000
    """the latest returns since the old cut, and as many before it"""
    trust: bool = True
    """learn trust in reasoners from real decisions"""
    outcome: bool = True
    """fit the outcome heads and their calibration anew"""


def fine_tune(
    old: TrainedBackbone,
    config: TrainConfig,
    tune: TuneConfig,
    *,
    since: datetime,
    as_of: datetime,
    reasoned: Mapping[str, Sequence[Reasoned]],
    folder: Path,
    progress: Progress,
) -> TrainedBackbone:
    """``old`` after it learnt what its log holds up to ``as_of``; a copy, as of then. ``folder`` keeps what a stopped call goes on from.

    Args:
        old: over the items and events up to ``as_of``.
        since: its cut: what it has learnt from ended there.
        config: of the training that ``old`` comes from.
        reasoned: real decisions by reasoner, with orders before ``as_of``.

    Raises:
        FutureError: the log or an order lies at or after ``as_of``.
    """
    last = seconds(as_of)
    if len(old.log) and int(old.log.time.max()) >= last:
        raise FutureError(f"the log holds events at or after {as_of.isoformat()}", fix="read it with until=as_of")
    if any(one.at >= last for some in reasoned.values() for one in some):
        raise FutureError(f"a decision at or after {as_of.isoformat()} was to be learnt from")
    model, baskets, last_day = copy.deepcopy(old.model), Baskets.of(old.log), last // DAY
    new = _returns(old, baskets, config, tune, seconds(since) // DAY, last_day)
    if tune.epochs and new:
        _taste(model, old.log, new, config, tune, folder, progress)
    trust = dict(old.trust)
    learnt: dict[str, Any] = {}
    for reasoner, some in sorted(reasoned.items()) if tune.trust else ():
        if len(some) >= LEAST_REAL:
            trust[reasoner], learnt[reasoner] = _trust(
                _trusting(old, model, reasoner), old.log, old.features, some, config, progress
            )
    platt, report = old.platt, dict(old.manifest.get("report", {}))
    if tune.outcome:
        data = outcome_spells(old.log, baskets, old.features, config, last_day)
        outcome = fit_outcome(model, old.log, data, config, progress)
        platt = outcome.platt
        report |= {
            f"outcome_{name}": None if np.isnan(value) else value
            for name, value in (("rate", outcome.rate), ("ece", outcome.ece), ("auc", outcome.auc))
        } | {"platt": list(platt)}
    manifest = {
        **old.manifest,
        "as_of": as_of.isoformat(),
        "report": report,
        "tuned": {**asdict(tune), "since": since.isoformat(), "returns_learnt": len(new), "reasoners": learnt},
    }
    return TrainedBackbone(model, old.space, old.log, as_of, platt, manifest, trust)


def _trusting(old: TrainedBackbone, model: Backbone, reasoner: str) -> Backbone:
    """A copy of ``model`` that begins with the trust that ``reasoner`` has."""
    begun = copy.deepcopy(model)
    if reasoner in old.trust:
        begun.load_state_dict({**begun.state_dict(), **old.trust[reasoner]})
    return begun


def _returns(
    old: TrainedBackbone, baskets: Baskets, config: TrainConfig, tune: TuneConfig, cut: int, last_day: int
) -> list[Decision]:
    """Returns whose order came from day ``cut`` on, and as many before it, in time order."""
    basket, day, weight = returns(
        baskets,
        horizon_days=config.horizon_days,
        dormant_days=config.dormant_days,
        first_day=last_day - config.history_days,
        last_day=last_day,
        seed=config.seed,
    )
    order = np.argsort(baskets.day[basket], kind="stable")
    fresh = baskets.day[basket[order]] >= cut
    since = order[fresh][-tune.returns :]
    before = order[~fresh][-len(since) :] if len(since) else order[:0]
    chosen = [*before, *since]
    asked = [(int(baskets.user[basket[k]]), int(day[k]) * DAY, None) for k in chosen]
    return [
        Decision(user, at, pool, target=baskets.items_of(int(basket[k])), weight=float(weight[k]))
        for k, (user, at, _), pool in zip(chosen, asked, old.features.pools(asked), strict=True)
    ]


def _taste(
    model: Backbone,
    log: EventLog,
    learn: list[Decision],
    config: TrainConfig,
    tune: TuneConfig,
    folder: Path,
    progress: Progress,
) -> None:
    """Tune ``model`` and keep the point ``tune.step`` of the way."""
    before = {name: weight.detach().clone() for name, weight in taste_weights(model).items()}
    torch.manual_seed(config.seed)
    slower = replace(config, epochs=tune.epochs, learning_rate=config.learning_rate * tune.rate)
    fit_taste(model, log, learn, [], slower, folder, progress, go_on=True)
    shutil.rmtree(folder, ignore_errors=True)
    with torch.no_grad():
        for name, weight in taste_weights(model).items():
            weight.lerp_(before[name], 1 - tune.step)


def _trust(
    model: Backbone,
    log: EventLog,
    features: Features,
    some: Sequence[Reasoned],
    config: TrainConfig,
    progress: Progress,
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The candidate part's weights after real decisions, and what is to be told of it."""
    given = {(one.user, one.at): one.hint for one in some}
    pools = features.pools([(one.user, one.at, None) for one in some])
    decisions = [Decision(one.user, one.at, pool, target=one.ordered) for one, pool in zip(some, pools, strict=True)]
    fit = fit_candidates(model, log, features, decisions, lambda keys: [given[key] for key in keys], config, progress)
    part = {
        name: weight.detach().clone()
        for name, weight in model.named_parameters()
        if name.startswith(("candidate", "role_in"))
    }
    return part, {name: None if np.isnan(value) else value for name, value in asdict(fit).items()}
