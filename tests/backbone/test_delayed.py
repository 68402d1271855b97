"""Delayed labels, on planted worlds in which the truth behind the cut is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rolegen_backbone.delayed import delayed_loss, real_negative, seen_share
from rolegen_backbone.events import DAY, Baskets, Floats, Ints
from rolegen_backbone.examples import spells
from rolegen_backbone.features import Features

from .conftest import TODAY, Row, log_of

HORIZON = 60


class World(NamedTuple):
    """Decisions watched until a cut, and what became of them."""

    x: Floats
    recent: Floats
    """(N,) 0 at decisions whose horizon is over, 1 at the cut"""
    chance: Floats
    """(N,) true P(order within the horizon)"""
    watched: Ints
    delay: Ints
    """as known at the cut: -1 where no order was seen"""
    truth: Ints
    """as known to nobody"""


def world(count: int = 40_000, *, drift: float, seed: int = 0) -> World:
    """Orders take 2 + Gamma days, cut at the horizon; over the last horizon the logit of an order changes by ``drift``."""
    random = np.random.default_rng(seed)
    age = random.integers(1, 2 * HORIZON, count)  # days between the decision and the cut
    x = random.normal(size=count).astype(np.float32)
    recent = np.maximum(0, 1 - age / HORIZON).astype(np.float32)
    chance = 1 / (1 + np.exp(-(-0.5 + x + drift * recent)))
    delay = np.minimum(2 + random.gamma(2.0, 10.0, count).astype(np.int64), HORIZON - 1)
    truth = np.where(random.random(count) < chance, delay, -1)
    watched = np.minimum(age, HORIZON)
    return World(x, recent, chance.astype(np.float32), watched, np.where(truth < watched, truth, -1), truth)


def fit(world: World, seen: Floats, rows: np.ndarray | None = None) -> Floats:
    """Predictions for all of a logistic model of x and time, fitted on ``rows``."""
    x = torch.from_numpy(np.stack([np.ones_like(world.x), world.recent, world.x], axis=1))
    weight = torch.zeros(3, requires_grad=True)
    chosen = torch.arange(len(x)) if rows is None else torch.from_numpy(np.flatnonzero(rows))
    ordered, share = torch.from_numpy((world.delay >= 0).astype(np.float32)), torch.from_numpy(seen)
    optimiser = torch.optim.LBFGS([weight], max_iter=5)

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = delayed_loss(x[chosen] @ weight, ordered[chosen], share[chosen]).mean()
        loss.backward()
        return loss

    for _ in range(60):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    return (x @ weight).sigmoid().detach().numpy()


def treatments(made: World) -> dict[str, Floats]:
    share = seen_share(made.delay, made.watched, HORIZON)[made.watched]
    everything = np.ones(len(made.x), np.float32)
    return {
        "weighted": fit(made, share),
        "open is no": fit(made, everything),
        "left out": fit(made, everything, made.watched >= HORIZON),
        "early orders only": fit(made, everything, (made.watched >= HORIZON) | (made.delay >= 0)),
    }


def test_the_share_seen_is_the_planted_distribution_of_delays() -> None:
    made = world(drift=1.5)
    share = seen_share(made.delay, made.watched, HORIZON)
    came = made.truth[made.truth >= 0]
    planted = np.array([(came < e).mean() for e in range(HORIZON + 1)])
    assert share[0] == 0 and share[-1] == 1 and (np.diff(share) >= 0).all()
    assert share == pytest.approx(planted, abs=0.02)
    # Counting the delays that were seen would take orders for quicker than they are.
    counted = np.array([(made.delay[made.delay >= 0] < e).mean() for e in range(HORIZON + 1)])
    assert (counted - planted).max() > 0.05


def test_the_share_seen_by_hand() -> None:
    """Horizon 3. Of decisions watched to the end, two ordered on day 0 and one on day 2; one watched for a day, on day 0."""
    delay, watched = np.array([0, 0, 2, 0, -1, -1]), np.array([3, 3, 3, 1, 2, 3])
    # day 2: 1 of the 3 watched beyond it; day 1: 0; day 0: all that came by then.
    assert seen_share(delay, watched, 3) == pytest.approx(np.array([0, 2 / 3, 2 / 3, 1]))
    assert seen_share(np.array([-1, -1]), np.array([1, 3]), 3).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("drift", [0.0, 1.5, -1.5])
def test_weights_recover_the_planted_rate_where_other_treatments_do_not(drift: float) -> None:
    made = world(drift=drift)
    found = treatments(made)
    rate = float(made.chance.mean())
    error = {name: float(predicted.mean()) - rate for name, predicted in found.items()}
    assert abs(error["weighted"]) < 0.01
    assert error["open is no"] < -0.03  # biased low
    assert error["early orders only"] > 0.05  # biased high
    if drift:  # the finished ones are of another time
        assert error["left out"] * np.sign(drift) < -0.05
    else:
        assert abs(error["left out"]) < 0.01
    lately = made.recent > 0.5  # those that a decision of today is most like
    truth = float((made.truth[lately] >= 0).mean())
    assert float(found["weighted"][lately].mean()) == pytest.approx(truth, abs=0.04)
    assert float(found["open is no"][lately].mean()) < truth - 0.1


def test_weights_calibrate_every_kind_of_user() -> None:
    made = world(drift=0.0)
    found = treatments(made)
    for kind in np.array_split(np.argsort(made.x), 5):
        truth = float((made.truth[kind] >= 0).mean())
        assert float(found["weighted"][kind].mean()) == pytest.approx(truth, abs=0.025)
    top = np.argsort(made.x)[-len(made.x) // 5 :]
    assert float(found["open is no"][top].mean()) < float((made.truth[top] >= 0).mean()) - 0.05


def test_gradients_are_those_of_the_likelihood_of_what_was_seen() -> None:
    logit = torch.tensor([-1.0, 0.5, 2.0, 0.3], dtype=torch.float64, requires_grad=True)
    ordered = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    seen = torch.tensor([0.25, 1.0, 0.4, 0.0], dtype=torch.float64)
    (mine,) = torch.autograd.grad(delayed_loss(logit, ordered, seen).sum(), logit)
    p = logit.sigmoid()
    likelihood = torch.where(ordered > 0, p.log(), (1 - p * seen).log())
    (theirs,) = torch.autograd.grad(-likelihood.sum(), logit)
    assert mine.numpy() == pytest.approx(theirs.numpy(), abs=1e-9)
    # Once the horizon is over it is plain cross-entropy; before anything could be seen nothing is learnt.
    plain = F.binary_cross_entropy_with_logits(logit, ordered, reduction="none")
    assert delayed_loss(logit, ordered, torch.ones_like(seen)).tolist() == pytest.approx(plain.tolist())
    assert float(mine[3]) == pytest.approx(0, abs=1e-12)
    assert float(real_negative(torch.tensor(0.5), torch.tensor(0.5))) == pytest.approx(2 / 3)


def test_unfinished_spells_know_how_long_they_were_watched() -> None:
    rows = [Row("a", "x", TODAY), Row("b", "x", TODAY + 90), Row("c", "x", TODAY), Row("c", "x", TODAY + 95)]
    log = log_of(rows, ["x"])
    last = TODAY + 100
    found = spells(
        log,
        Baskets.of(log),
        Features(log, np.ones(1, np.float32), np.zeros((1, 1), np.float32)),
        horizon_days=30,
        dormant_days=40,
        first_day=TODAY,
        last_day=last,
        limit=600,
        seed=0,
        unfinished=True,
    )
    day = found.at // DAY
    assert (day < last).all() and (day + 30 > last).any()
    assert (found.watched == np.minimum(last - day, 30)).all()
    assert ((found.delay >= 0) == (found.ordered == 1)).all()
    ordering = (found.user == 2) & (day > TODAY + 65) & (day <= TODAY + 95)
    assert ordering.any()
    assert (found.delay[ordering] == TODAY + 95 - day[ordering]).all()
    assert (found.delay[~ordering] == -1).all()
    assert found.dormant.tolist() == [
        bool(d - (TODAY + 95 if u == 2 and d > TODAY + 95 else TODAY + 90 if u == 1 else TODAY) > 40)
        for u, d in zip(found.user, day, strict=True)
    ]
