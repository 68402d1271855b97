"""Reasoned candidates come in through a gate, and the gate bounds what they can do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rolegen_backbone.artefact import TrainedBackbone
from rolegen_backbone.examples import NO_HINT, Decision
from rolegen_backbone.features import PoolSize
from rolegen_backbone.model import target_log_probability

from .conftest import CUT, ITEMS, Toy, at_day, hint, toy_model


def distribution(toy: Toy, decision: Decision) -> Tensor:
    """(I,) probability of every item."""
    batch = toy.collate.batch([decision])
    with torch.no_grad():
        return target_log_probability(
            toy.model, batch, toy.model.encode(batch), torch.arange(ITEMS).unsqueeze(0)
        ).exp()[0]


def share(toy: Toy, decisions: list[Decision]) -> Tensor:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        return toy.model.mix(batch, toy.model.encode(batch)).log_gate_B3.exp()


def open_gate(toy: Toy) -> None:
    """What a gate does that was taught to trust every candidate."""
    last = toy.model.candidate_gate[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.fill_(100.0)


def test_gates_add_up_and_are_closed_without_candidates(toy: Toy) -> None:
    gate = share(toy, [toy.decide(0), toy.decide(5, [1, 2])])
    assert gate.sum(dim=1).numpy() == pytest.approx(np.ones(2), abs=1e-6)
    assert float(gate[0, 2]) < 1e-20
    assert float(gate[1, 2]) > 1e-3


def test_an_empty_hint_is_no_hint(toy: Toy) -> None:
    plain = toy.decide(7)
    empty = dataclasses.replace(plain, pool=toy.features.pool(7, plain.at, np.zeros(0, np.int64)), hint=hint([]))
    assert torch.equal(distribution(toy, plain), distribution(toy, empty))
    # … also beside a decision that has candidates.
    batch = toy.collate.batch([empty, toy.decide(5, [1, 2, 9])])
    with torch.no_grad():
        together = target_log_probability(
            toy.model, batch, toy.model.encode(batch), torch.arange(ITEMS).expand(2, ITEMS)
        ).exp()[0]
    assert together.numpy() == pytest.approx(distribution(toy, plain).numpy(), abs=1e-5)


def test_the_share_of_candidates_never_exceeds_the_cap() -> None:
    toy = toy_model(seed=6)
    open_gate(toy)
    gate = share(toy, [toy.decide(user, list(range(user % 9 + 1))) for user in range(12)])
    assert float(gate[:, 2].max()) <= toy.model.config.candidate_cap + 1e-6
    assert float(gate[:, 2].min()) > 0.99 * toy.model.config.candidate_cap


@pytest.mark.parametrize("gate", ["learned", "wide open"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hostile_candidates_move_at_most_the_cap(seed: int, gate: str) -> None:
    """Total variation between the answers with and without candidates, for candidates that nobody would want."""
    toy = toy_model(seed=seed, size=PoolSize(own=3, popular=3, season=0))
    if gate == "wide open":
        open_gate(toy)
    for user in range(0, 40, 5):
        plain = toy.decide(user)
        strangers = [item for item in range(ITEMS) if item not in set(plain.pool.item.tolist())]
        for hostile in (strangers, strangers[:1] * 20, [int(plain.pool.item[0])]):
            moved = distribution(toy, toy.decide(user, hostile)) - distribution(toy, plain)
            assert float(moved.abs().sum() / 2) <= toy.model.config.candidate_cap + 1e-5, (user, hostile)


def test_a_candidate_gains_and_what_is_no_candidate_does_not(toy: Toy) -> None:
    toy = toy_model(seed=1, size=PoolSize(own=3, popular=3, season=0))
    open_gate(toy)
    plain = toy.decide(12)
    stranger = next(item for item in range(ITEMS) if item not in set(plain.pool.item.tolist()))
    before, after = distribution(toy, plain), distribution(toy, toy.decide(12, [stranger]))
    assert float(after[stranger] - before[stranger]) > 0.9 * toy.model.config.candidate_cap * (1 - before[stranger])
    others = torch.arange(ITEMS) != stranger
    assert (after[others] <= before[others] + 1e-6).all()


def test_the_order_of_candidates_does_not_matter(toy: Toy) -> None:
    there, back = distribution(toy, toy.decide(9, [1, 8, 20])), distribution(toy, toy.decide(9, [20, 8, 1]))
    assert there.numpy() == pytest.approx(back.numpy(), abs=1e-5)


def test_a_trained_slate_without_candidates_is_the_slate_with_none(trained: TrainedBackbone) -> None:
    everything = np.ones(ITEMS, bool)
    for user in ("u00", "u13", "u39"):
        plain = trained.decision(user, at_day(CUT), NO_HINT)
        empty = trained.decision(user, at_day(CUT), hint([]))
        a, b = (trained.rank([d], everything, size=8) for d in (plain, empty))
        assert torch.equal(a.item_BN, b.item_BN)
        assert torch.equal(a.log_probability_BN, b.log_probability_BN)
