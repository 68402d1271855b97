"""A prepared model answers as the one that it was made from."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from rolegen_backbone.decoding import Decoded, beam_search
from rolegen_backbone.examples import Decision
from rolegen_backbone.features import PoolSize
from rolegen_backbone.model import Backbone
from rolegen_backbone.serving import prepare

from .conftest import ITEMS, Toy, toy_model

EVERYTHING = np.ones(ITEMS, bool)


@pytest.fixture(scope="module")
def decisions(toy: Toy) -> list[Decision]:
    return [toy.decide(0), toy.decide(5, [1, 2, 9]), toy.decide(30)]


def answer(toy: Toy, model: Backbone, decisions: list[Decision]) -> tuple[Decoded, Tensor, Tensor]:
    """Slate, outcome logits and the dense part's scores."""
    batch = toy.collate.batch(decisions)
    with torch.no_grad():
        encoded = model.encode(batch)
        found = beam_search(
            model,
            encoded,
            model.mix(batch, encoded),
            alive=model.trie.alive(EVERYTHING),
            available=torch.from_numpy(EVERYTHING),
            size=ITEMS,
            beam=ITEMS,
        )
        return found, model.outcome(batch.user_BU, encoded), model.log_dense(encoded.state_BD)


def test_a_prepared_model_answers_as_the_model(toy: Toy, decisions: list[Decision]) -> None:
    (plain, *heads), (served, *served_heads) = (
        answer(toy, model, decisions) for model in (toy.model, prepare(toy.model))
    )
    assert plain.item_BN.tolist() == served.item_BN.tolist()
    assert served.log_probability_BN.numpy() == pytest.approx(plain.log_probability_BN.numpy(), abs=1e-4)
    for before, after in zip(heads, served_heads, strict=True):
        assert after.numpy() == pytest.approx(before.numpy(), abs=1e-4)


def test_bfloat16_moves_probabilities_little_and_still_ranks_every_item_once() -> None:
    toy = toy_model(size=PoolSize(own=4, popular=5, season=3, near=2))
    decisions = [toy.decide(0), toy.decide(5, [1, 2, 9]), toy.decide(30)]
    plain, _, _ = answer(toy, toy.model, decisions)
    served, _, _ = answer(toy, prepare(toy.model, dtype=torch.bfloat16), decisions)
    assert [sorted(row) for row in served.item_BN.tolist()] == [list(range(ITEMS))] * 3
    before = torch.zeros(3, ITEMS).scatter_(1, plain.item_BN, plain.log_probability_BN.exp())
    after = torch.zeros(3, ITEMS).scatter_(1, served.item_BN, served.log_probability_BN.exp())
    assert after.sum(dim=1).numpy() == pytest.approx(np.ones(3), abs=1e-4)
    assert float((after - before).abs().sum(dim=1).max()) < 0.1  # of a total of 2 where they share nothing


def test_the_model_itself_stays_as_it_was(toy: Toy) -> None:
    before = copy.deepcopy(toy.model.state_dict())
    served = prepare(toy.model, dtype=torch.bfloat16)
    assert toy.model.item_table is None
    assert all(parameter.requires_grad for parameter in toy.model.parameters())
    for name, value in toy.model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])
    assert served.content.data_ptr() == toy.model.content.data_ptr()  # what is large and constant is not copied


def test_the_dense_part_is_looked_up_too() -> None:
    toy = toy_model(seed=3)
    model = copy.deepcopy(toy.model)
    object.__setattr__(model, "config", type(model.config)(**{**model.config.to_json(), "use_dense": True}))
    decisions = [toy.decide(4), toy.decide(7)]
    plain, _, dense = answer(toy, model, decisions)
    served, _, served_dense = answer(toy, prepare(model), decisions)
    assert served_dense.numpy() == pytest.approx(dense.numpy(), abs=1e-4)
    assert plain.item_BN.tolist() == served.item_BN.tolist()
