"""The decoder is a distribution over items, and beam search finds the best of the whole mixture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from rolegen_backbone.decoding import Decoded, beam_search, decoder_alone
from rolegen_backbone.examples import Collator, Decision
from rolegen_backbone.features import Features, PoolSize
from rolegen_backbone.model import PARTS, Backbone, CodeCache, Encoded, target_log_probability
from rolegen_backbone.trie import Trie

from .conftest import CUT, ITEMS, USERS, Row, Toy, item_ids, log_of, shop_rows, toy_model

EVERYTHING = np.ones(ITEMS, bool)


def search(toy: Toy, decisions: list[Decision], available: np.ndarray, *, size: int, beam: int) -> Decoded:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        mixture = toy.model.mix(batch, encoded)
    return beam_search(
        toy.model,
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
    return [
        toy.decide(0),
        toy.read(toy.decide(5, [1, 2, 9]), 3, 0, 7, 5, 1, 2),
        toy.read(toy.decide(11, [3, 3, 3, 20]), 4),
        toy.decide(30),
    ]


def test_the_decoder_is_a_distribution_over_items(toy: Toy, decisions: list[Decision]) -> None:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        log_probability = toy.model.decode_targets(encoded, torch.arange(ITEMS).expand(4, ITEMS))
    assert log_probability.exp().sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-5)
    assert float(log_probability.exp().max()) > 2 / ITEMS  # and not the even one


def test_the_whole_mixture_is_a_distribution_over_items(toy: Toy, decisions: list[Decision]) -> None:
    assert exhaustive(toy, decisions).exp().sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-5)


@pytest.mark.parametrize("dense", [False, True])
def test_it_stays_one_for_somebody_who_owns_nothing_and_with_the_dense_part_on(dense: bool) -> None:
    toy = toy_model(seed=2, size=PoolSize(own=4, popular=5, season=3, near=2), use_dense=dense)
    log = log_of([*shop_rows(), Row("u99", "i03", CUT - 5, "view")], item_ids())
    features = Features(log, np.ones(ITEMS, np.float32), np.zeros((ITEMS, 1), np.float32), toy.features.size)
    toy = toy._replace(features=features, collate=Collator(log, toy.model.config.history))
    newcomer, someone = toy.decide(USERS), toy.decide(7, [1, 2])
    for decisions in ([newcomer], [newcomer, someone], [newcomer, toy.decide(USERS, [4, 20])]):
        truth = exhaustive(toy, decisions)
        assert truth.exp().sum(dim=1).numpy() == pytest.approx(np.ones(len(decisions)), abs=1e-5)
        found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=ITEMS)
        assert found.log_probability_BN.numpy() == pytest.approx(truth.gather(1, found.item_BN).numpy(), abs=1e-4)
        share = found.parts_BNM.sum(dim=1)
        assert float(share[0, PARTS.index("own")]) == 0.0
        assert bool((share[:, PARTS.index("dense")] > 0.01).all()) == dense


@pytest.mark.parametrize(("layers", "own_codes"), [(1, False), (2, False), (1, True), (2, True)])
def test_cached_steps_equal_the_uncached_pass(layers: int, own_codes: bool) -> None:
    toy = toy_model(seed=4, decoder_layers=layers, own_codes=own_codes)
    batch = toy.collate.batch([toy.decide(1), toy.read(toy.decide(2), 2, 5), toy.read(toy.decide(33), 0, 1, 2, 3)])
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        whole = toy.model.decode_targets(encoded, torch.arange(ITEMS).expand(3, ITEMS))
        memory = toy.model.begin_decoding(encoded)
        codes = toy.model.codes.expand(3, ITEMS, -1)
        total, last = torch.zeros(3, ITEMS), None
        cache = CodeCache()
        for level in range(len(toy.model.config.sizes)):
            known, cache = toy.model.step(encoded, memory, last, level, cache)
            logits = toy.model.code_logits(known, level)
            if level == 0:  # one beam so far: every item goes on from it
                logits = logits.expand(3, ITEMS, -1)
                cache = cache.select(torch.zeros(3, ITEMS, dtype=torch.long))
            _, sibling, real = toy.model.trie.below(level, toy.model.trie.node[:, level].long())
            allowed = torch.zeros(ITEMS, logits.shape[-1], dtype=torch.bool)
            for item in range(ITEMS):
                allowed[item, sibling[item][real[item]]] = True
            step = logits.masked_fill(~allowed, -torch.inf).log_softmax(dim=-1)
            last = codes[..., level]
            total += step.gather(-1, last.unsqueeze(-1)).squeeze(-1)
    assert total.numpy() == pytest.approx(whole.numpy(), abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("beam", [ITEMS, ITEMS + 1, 100])
def test_a_beam_as_wide_as_the_catalogue_is_exhaustive(seed: int, beam: int) -> None:
    toy = toy_model(seed=seed, size=PoolSize(own=4, popular=5, season=3, near=2), own_codes=bool(seed))
    decisions = [toy.decide(0), toy.read(toy.decide(5, [1, 2, 9]), 1, 4), toy.decide(11, [3, 3, 3, 20])]
    truth = exhaustive(toy, decisions)
    found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=beam)
    best = truth.sort(dim=1, descending=True)
    assert found.log_probability_BN.numpy() == pytest.approx(best.values.numpy(), abs=1e-4)
    assert truth.gather(1, found.item_BN).numpy() == pytest.approx(best.values.numpy(), abs=1e-4)
    assert [sorted(row) for row in found.item_BN.tolist()] == [list(range(ITEMS))] * 3


def test_the_parts_add_up_to_the_probability(toy: Toy, decisions: list[Decision]) -> None:
    found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=ITEMS)
    assert found.parts_BNM.sum(dim=2).numpy() == pytest.approx(found.log_probability_BN.exp().numpy(), abs=1e-6)
    assert (found.parts_BNM >= 0).all()
    pooled = set(decisions[0].pool.item.tolist())
    pool, candidate = found.parts_BNM[..., 2:-1].sum(dim=-1), found.parts_BNM[..., -1]
    assert [item in pooled for item in found.item_BN[0].tolist()] == (pool[0] > 1e-9).tolist()
    assert (candidate[0] < 1e-9).all()  # nobody reasoned for this decision
    assert [item in {1, 2, 9} for item in found.item_BN[1].tolist()] == (candidate[1] > 1e-9).tolist()


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
    assert not found.parts_BNM.isnan().any()
    assert float(found.parts_BNM[:, left:].sum()) == 0.0  # what is no item has no probability


def test_without_the_decoder_the_pool_alone_ranks() -> None:
    toy = toy_model(seed=2, size=PoolSize(own=4, popular=5, season=3, near=2), use_decoder=False)
    decision = toy.decide(0)
    found = search(toy, [decision], EVERYTHING, size=len(decision.pool.item), beam=ITEMS)
    assert set(found.item_BN[0].tolist()) == set(decision.pool.item.tolist())
    assert float(found.log_probability_BN.exp().sum()) == pytest.approx(1.0, abs=1e-5)


LONG = np.array(
    [[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 2], [1, 2, 3, 0], [2, 0, 0, 0], [2, 0, 1, 0], [2, 0, 1, 1]]
    + [[3, k % 4, k // 4, 0] for k in range(ITEMS - 8)]
)
"""Ids some of which are settled by their first code, and some of which branch only after a level with one child."""


def long_toy(toy: Toy) -> Toy:
    """The toy shop with :data:`LONG` for ids."""
    torch.manual_seed(5)
    config = dataclasses.replace(toy.model.config, sizes=(4, 4, 4, 3))
    model = Backbone(config, toy.model.content[1:], torch.from_numpy(LONG), Trie(LONG, config.sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return toy._replace(model=model.eval())


def test_settled_prefixes_are_as_exact_as_the_others(toy: Toy, decisions: list[Decision]) -> None:
    toy = long_toy(toy)
    truth = exhaustive(toy, decisions)
    assert truth.exp().sum(dim=1).numpy() == pytest.approx(np.ones(4), abs=1e-5)
    for beam in (ITEMS, 9):
        found = search(toy, decisions, EVERYTHING, size=beam, beam=beam)
        assert found.log_probability_BN.numpy() == pytest.approx(truth.gather(1, found.item_BN).numpy(), abs=1e-4)
    best = truth.sort(dim=1, descending=True)
    found = search(toy, decisions, EVERYTHING, size=ITEMS, beam=ITEMS)
    assert found.log_probability_BN.numpy() == pytest.approx(best.values.numpy(), abs=1e-4)


def test_settled_prefixes_are_not_decoded_on(toy: Toy, decisions: list[Decision]) -> None:
    toy = long_toy(toy)
    asked: list[tuple[int, int]] = []
    whole = Backbone.step

    def counted(self: Backbone, encoded: Encoded, events: list, code: Tensor | None, level: int, cache: CodeCache):  # type: ignore[no-untyped-def,type-arg]
        asked.append((level, 1 if code is None else code.shape[1]))
        return whole(self, encoded, events, code, level, cache)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Backbone, "step", counted)
        search(toy, decisions, EVERYTHING, size=ITEMS, beam=ITEMS)
    # Three first codes branch; of the nine prefixes of two codes fewer than eight do, of those of three codes two.
    assert asked == [(0, 1), (1, 4), (2, 8), (3, 8)]


@pytest.mark.parametrize("beam", [6, ITEMS])
def test_the_decoder_alone_goes_through_the_same_search(toy: Toy, decisions: list[Decision], beam: int) -> None:
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = toy.model.encode(batch)
        truth = toy.model.decode_targets(encoded, torch.arange(ITEMS).expand(4, ITEMS))
    found = beam_search(
        toy.model,
        encoded,
        decoder_alone(encoded),
        alive=toy.model.trie.alive(EVERYTHING),
        available=torch.from_numpy(EVERYTHING),
        size=6,
        beam=beam,
    )
    assert found.log_probability_BN.numpy() == pytest.approx(truth.gather(1, found.item_BN).numpy(), abs=1e-4)
    assert found.parts_BNM[..., 0].numpy() == pytest.approx(found.log_probability_BN.exp().numpy(), abs=1e-6)
    assert not found.parts_BNM[..., 1:].any()
    if beam == ITEMS:
        assert found.log_probability_BN.numpy() == pytest.approx(truth.topk(6).values.numpy(), abs=1e-4)
