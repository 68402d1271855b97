"""What stage 1 minimises: by hand, each head and each part alone, and numbers where there is nothing to learn from."""

from __future__ import annotations

from dataclasses import replace
from math import log as ln

import numpy as np
import pytest
import torch
from torch import Tensor

from rolegen_backbone import losses
from rolegen_backbone.examples import Decision, pool_hits, sample_targets
from rolegen_backbone.features import PoolSize
from rolegen_backbone.losses import parts_loss
from rolegen_backbone.model import PoolView

from .conftest import Toy, toy_model

BASKET = 20.0


def pointer_loss(view: PoolView, hit_BP: torch.Tensor) -> torch.Tensor:
    """With twenty items in a usual basket."""
    return losses.pointer_loss(view, hit_BP, torch.tensor(BASKET))


def view_of(score_PK: list[list[float]], own: list[bool], *, padding: int = 0) -> PoolView:
    """One decision; the last ``padding`` items belong to neither pointer."""
    mine = torch.tensor([own])
    group = torch.stack([mine, ~mine])
    if padding:
        group[..., -padding:] = False
    score = torch.tensor([score_PK], requires_grad=True)
    # A heat that training must not see: it is fitted later.
    return PoolView(torch.zeros(1, 1), score, group, mine, torch.tensor([0.5, 2.0]))


def hit_of(*hit: bool) -> Tensor:
    return torch.tensor([hit])


def test_by_hand() -> None:
    view = view_of([[ln(3)], [0.0], [0.0], [0.0]], [True, True, False, False])
    own, market = pointer_loss(view, hit_of(True, False, True, True))[:, 0].tolist()
    assert own == pytest.approx(-(ln(0.75) + ln(0.75) / BASKET) / 2)
    assert market == pytest.approx(-(ln(1.0) + 2 * ln(0.5) / BASKET) / 2)  # the basket has all: only the order is left


def test_a_pointer_that_trusts_the_basket_alone_has_nothing_to_lose() -> None:
    sure = view_of([[30.0], [0.0], [0.0], [0.0]], [True] * 4)
    astray = view_of([[0.0], [0.0], [0.0], [30.0]], [True] * 4)
    assert float(pointer_loss(sure, hit_of(True, False, False, False))[0]) < 1e-6
    assert float(pointer_loss(astray, hit_of(True, False, False, False))[0]) > 10
    # Of two wanted items it may trust either most: the first place counts as won, the rest of the slate does not.
    both = pointer_loss(view_of([[30.0], [0.0], [-30.0], [-30.0]], [True] * 4), hit_of(True, True, False, False))
    assert float(both[0]) == pytest.approx(30 / BASKET / 2, abs=1e-4)


def test_each_head_learns_as_if_it_were_alone() -> None:
    hit = hit_of(True, False, False, True)
    first, second = [0.3, -1.0, 2.0, 0.1], [1.5, 0.2, -0.7, -2.0]
    gradients = []
    for other in (second, [0.0, 9.0, 0.0, 0.0]):
        view = view_of([list(pair) for pair in zip(first, other, strict=True)], [True, True, False, False])
        pointer_loss(view, hit).sum().backward()
        assert view.score_BPK.grad is not None
        gradients.append(view.score_BPK.grad[0])
    assert torch.equal(gradients[0][:, 0], gradients[1][:, 0])
    assert not torch.allclose(gradients[0][:, 1], gradients[1][:, 1])
    alone = view_of([[value] for value in first], [True, True, False, False])
    pointer_loss(alone, hit).sum().backward()
    assert alone.score_BPK.grad is not None
    assert torch.allclose(alone.score_BPK.grad[0, :, 0], 2 * gradients[0][:, 0])  # the loss is the mean over two heads


@pytest.mark.parametrize(
    ("own", "padding", "hit"),
    [
        ([False, False, False], 0, (False, False, False)),  # nothing owned, nothing found
        ([True, True, True], 0, (False, False, False)),  # nothing but owned items
        ([True, False, False], 2, (False, True, True)),  # the basket lies in what reasoning or padding brought in
    ],
)
def test_what_a_pointer_cannot_learn_from_costs_nothing(own: list[bool], padding: int, hit: tuple[bool, ...]) -> None:
    view = view_of([[0.5, 1.0], [80.0, -3.0], [-80.0, 0.0]], own, padding=padding)
    loss = pointer_loss(view, hit_of(*hit))
    assert loss.tolist() == [[0.0], [0.0]]
    loss.sum().backward()
    assert view.score_BPK.grad is not None and (view.score_BPK.grad == 0).all()


def test_an_empty_group_leaves_the_other_ones_gradient_finite() -> None:
    view = view_of([[0.5], [80.0], [-80.0]], [False, False, False])
    loss = pointer_loss(view, hit_of(False, False, True))
    assert loss[0, 0] == 0 and torch.isfinite(loss).all()
    loss.sum().backward()
    assert view.score_BPK.grad is not None
    assert torch.isfinite(view.score_BPK.grad).all() and (view.score_BPK.grad != 0).any()


def wanting(toy: Toy, targets: dict[int, list[int]]) -> list[Decision]:
    return [replace(toy.decide(user), target=np.array(items)) for user, items in targets.items()]


def gradients(toy: Toy, decisions: list[Decision]) -> dict[str, Tensor]:
    """Of every parameter that the loss reaches."""
    batch = toy.collate.batch(decisions)
    target, weight = sample_targets(decisions, np.random.default_rng(0))
    toy.model.zero_grad()
    parts_loss(toy.model, batch, target, weight, pool_hits(decisions, batch)).backward()
    return {
        name: weight.grad.clone()
        for name, weight in toy.model.named_parameters()
        if weight.grad is not None and (weight.grad != 0).any()
    }


def test_each_part_learns_alone_and_the_later_stages_weights_stay() -> None:
    wants = {0: [0, 3], 1: [7, 11, 20], 2: [14, 5]}
    whole, without = (toy_model(use_decoder=decoder) for decoder in (True, False))
    all_parts, pointers = gradients(whole, wanting(whole, wants)), gradients(without, wanting(without, wants))
    reached = {name.split(".")[0] for name in all_parts}
    assert {"own_score", "market_score", "decoder", "layers"} <= reached
    assert not reached & {
        "gate",
        "gate_heat",
        "candidate_gate",
        "candidate_score",
        "role_in",
        "outcome_in",
        "outcome_out",
    }
    assert {name.split(".")[0] for name in pointers} == {"own_score", "market_score"}
    assert all(torch.equal(all_parts[name], gradient) for name, gradient in pointers.items())


def test_a_decision_of_no_weight_teaches_nothing() -> None:
    toy = toy_model(seed=2, size=PoolSize(own=4, popular=5, season=3, near=2))
    one, other = wanting(toy, {0: [0, 3], 9: [15, 2]})
    alone, beside = gradients(toy, [one]), gradients(toy, [one, replace(other, weight=0.0)])
    assert alone.keys() == beside.keys()
    for name, gradient in alone.items():
        assert torch.allclose(gradient, beside[name], atol=1e-5, rtol=1e-3), name
