"""The decoder is a distribution over items, and beam search finds the best of the whole mixture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from rolegen_backbone.decoding import Decoded, beam_search
from rolegen_backbone.examples import Decision
from rolegen_backbone.features import PoolSize
from rolegen_backbone.model import target_log_probability

from .conftest import ITEMS, Toy, toy_model

EVERYTHING = np.ones(ITEMS, bool)


def search(toy: Toy, decisions: list[Decision], available: np.ndarray, *, size: int, beam: int) -> Decoded:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        mixture = toy.model.mix(batch, encoded)
    return beam_search(
        toy.model,
        batch,
        encoded,
        mixture,
        alive=toy.model.trie.alive(available),
        available=torch.from_numpy(available),
        size=size,
        beam=beam,
    )


def exhaustive(toy: Toy, decisions: list[Decision]) -> Tensor:
    """(B, I) log probability of every item under the whole mixture, without any search."""
    batch = toy.collate.batch(decisions)
    every = torch.arange(ITEMS).expand(len(decisions), ITEMS)
    with torch.no_grad():
        return target_log_probability(toy.model, batch, toy.model.encode(batch), every)


@pytest.fixture(scope="module")
def decisions(toy: Toy) -> list[Decision]:
    return [toy.decide(0), toy.decide(5, [1, 2, 9]), toy.decide(11, [3, 3, 3, 20]), toy.decide(30)]


def test_the_decoder_is_a_distribution_over_items(toy: Toy, decisions: list[Decision]) -> None:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        log_probability = toy.model.decode_targets(encoded, torch.arange(ITEMS).expand(4, ITEMS))
    assert log_probability.exp().sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-5)
    assert float(log_probability.exp().max()) > 2 / ITEMS  # and not the even one


def test_the_whole_mixture_is_a_distribution_over_items(toy: Toy, decisions: list[Decision]) -> None:
    assert exhaustive(toy, decisions).exp().sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_cached_steps_equal_the_uncached_pass(layers: int) -> None:
    toy = toy_model(seed=4, decoder_layers=layers)
    batch = toy.collate.batch([toy.decide(1), toy.decide(2), toy.decide(33)])
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        whole = toy.model.decode_targets(encoded, torch.arange(ITEMS).expand(3, ITEMS))
        events = toy.model.begin_decoding(encoded)
        codes = toy.model.codes.expand(3, ITEMS, -1)
        total, last = torch.zeros(3, ITEMS), None
        cache: list[tuple[Tensor, Tensor]] = []
        for level in range(len(toy.model.config.sizes)):
            logits, cache = toy.model.step(encoded, events, last, level, cache)
            if level == 0:  # one beam so far: every item goes on from a copy of its own
                logits = logits.expand(3, ITEMS, -1)
                cache = [(k.repeat_interleave(ITEMS, dim=0), v.repeat_interleave(ITEMS, dim=0)) for k, v in cache]
            allowed = toy.model.trie.child[level][toy.model.trie.node[:, level]] >= 0
            step = logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)
            last = codes[..., level]
            total += step.gather(-1, last.unsqueeze(-1)).squeeze(-1)
    assert total.numpy() == pytest.approx(whole.numpy(), abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beam", [ITEMS, ITEMS + 1, 100])
def test_a_beam_as_wide_as_the_catalogue_is_exhaustive(seed: int, beam: int) -> None:
    toy = toy_model(seed=seed, size=PoolSize(own=4, popular=5, season=3))
    decisions = [toy.decide(0), toy.decide(5, [1, 2, 9]), toy.decide(11, [3, 3, 3, 20])]
    truth = exhaustive(toy, decisions)
    found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=beam)
    best = truth.sort(dim=1, descending=True)
    assert found.log_probability_BN.numpy() == pytest.approx(best.values.numpy(), abs=1e-4)
    assert truth.gather(1, found.item_BN).numpy() == pytest.approx(best.values.numpy(), abs=1e-4)
    assert [sorted(row) for row in found.item_BN.tolist()] == [list(range(ITEMS))] * 3


def test_the_parts_add_up_to_the_probability(toy: Toy, decisions: list[Decision]) -> None:
    found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=ITEMS)
    assert found.parts_BN3.sum(dim=2).numpy() == pytest.approx(found.log_probability_BN.exp().numpy(), abs=1e-6)
    assert (found.parts_BN3 >= 0).all()
    pooled = set(decisions[0].pool.item.tolist())
    for item, (_, pool, candidate) in zip(found.item_BN[0].tolist(), found.parts_BN3[0].tolist(), strict=True):
        assert (pool > 1e-9) == (item in pooled)
        assert candidate < 1e-9  # nobody reasoned for this decision
    for item, (_, _, candidate) in zip(found.item_BN[1].tolist(), found.parts_BN3[1].tolist(), strict=True):
        assert (candidate > 1e-9) == (item in {1, 2, 9})


def test_entropy_of_an_exhaustive_search_is_the_entropy_of_the_mixture(toy: Toy, decisions: list[Decision]) -> None:
    truth = exhaustive(toy, decisions)
    found = search(toy, decisions, EVERYTHING, size=3, beam=ITEMS)
    assert found.entropy_B.numpy() == pytest.approx(-(truth.exp() * truth).sum(dim=1).numpy(), abs=1e-3)


def test_a_narrow_beam_returns_real_probabilities_of_distinct_items(toy: Toy, decisions: list[Decision]) -> None:
    truth = exhaustive(toy, decisions)
    for beam in (1, 3, 7):
        found = search(toy, decisions, EVERYTHING, size=3, beam=beam)
        assert all(len(set(row)) == 3 for row in found.item_BN.tolist())
        assert found.log_probability_BN.numpy() == pytest.approx(truth.gather(1, found.item_BN).numpy(), abs=1e-4)


def test_batched_equals_single(toy: Toy, decisions: list[Decision]) -> None:
    together = search(toy, decisions, EVERYTHING, size=10, beam=ITEMS)
    for row, decision in enumerate(decisions):
        alone = search(toy, [decision], EVERYTHING, size=10, beam=ITEMS)
        assert alone.item_BN[0].tolist() == together.item_BN[row].tolist()
        assert alone.log_probability_BN[0].numpy() == pytest.approx(together.log_probability_BN[row].numpy(), abs=1e-4)
        assert alone.entropy_B[0].item() == pytest.approx(together.entropy_B[row].item(), abs=1e-4)


@pytest.mark.parametrize("beam", [5, ITEMS])
def test_unavailable_items_never_come_out(toy: Toy, beam: int) -> None:
    favourite = int(search(toy, [toy.decide(5)], EVERYTHING, size=1, beam=ITEMS).item_BN[0, 0])
    available = np.random.default_rng(0).random(ITEMS) < 0.5
    available[[favourite, 2]] = False
    hinted = [toy.decide(5, [favourite, 2, 2]), toy.decide(0, np.flatnonzero(available)[:2].tolist())]
    found = search(toy, hinted, available, size=5, beam=beam)
    for row in found.item_BN.tolist():
        assert len(set(row)) == 5
        assert set(row) <= set(np.flatnonzero(available).tolist())


def test_the_order_of_what_is_left_is_the_decoders_when_there_are_no_pointers(toy: Toy) -> None:
    """Taking items out of stock leaves the order of the others as the exhaustive score has it."""
    decisions = [toy.decide(3)]
    decisions = [dataclasses.replace(d, pool=toy.features.pool(d.user, d.at)) for d in decisions]
    available = np.ones(ITEMS, bool)
    available[decisions[0].pool.item] = False  # all that the pointer knows is sold out
    found = search(toy, decisions, available, size=ITEMS, beam=ITEMS)
    kept = int(available.sum())
    truth = exhaustive(toy, decisions)[0].masked_fill(~torch.from_numpy(available), -torch.inf)
    assert found.item_BN[0, :kept].tolist() == truth.argsort(descending=True)[:kept].tolist()


@pytest.mark.parametrize("left", [0, 1, 3])
def test_fewer_available_items_than_asked_for(toy: Toy, decisions: list[Decision], left: int) -> None:
    available = np.zeros(ITEMS, bool)
    available[[4, 9, 17][:left]] = True
    found = search(toy, decisions, available, size=8, beam=20)
    for row, log_probability in zip(found.item_BN.tolist(), found.log_probability_BN.tolist(), strict=True):
        assert sorted(row[:left]) == [4, 9, 17][:left]
        assert set(row[left:]) <= {-1}
        assert all(np.isfinite(log_probability[:left]))
    assert torch.isfinite(found.entropy_B).all()
    assert not found.parts_BN3.isnan().any()
    assert float(found.parts_BN3[:, left:].sum()) == 0.0  # what is no item has no probability


def test_without_the_decoder_the_pool_alone_ranks() -> None:
    toy = toy_model(seed=2, size=PoolSize(own=4, popular=5, season=3), use_decoder=False)
    decision = toy.decide(0)
    found = search(toy, [decision], EVERYTHING, size=len(decision.pool.item), beam=ITEMS)
    assert set(found.item_BN[0].tolist()) == set(decision.pool.item.tolist())
    assert float(found.log_probability_BN.exp().sum()) == pytest.approx(1.0, abs=1e-5)
