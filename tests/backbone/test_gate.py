"""Which part of the mixture is trusted: the one that is right about returns that it was not fitted on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rolegen_backbone.examples import Decision
from rolegen_backbone.features import POOL_FEATURES, PoolSize
from rolegen_backbone.gate_training import fit_gate
from rolegen_backbone.model import PARTS, part_log_probability
from rolegen_backbone.taste_training import fit_taste

from .conftest import CONFIG, CUT, ITEMS, USERS, Toy, silent, toy_model

SMALL = PoolSize(own=4, popular=5, season=3, near=2)


def of_parts(toy: Toy, decision: Decision) -> Tensor:
    """(I, 4) log probability of every item under every part but the candidates."""
    batch = toy.collate.batch([decision])
    with torch.no_grad():
        log_pointer = toy.model.point(batch).log_probability()
        everything = torch.arange(ITEMS).unsqueeze(0)
        return part_log_probability(toy.model, batch, toy.model.encode(batch), log_pointer, everything)[0]


def wanting_what(toy: Toy, part: str) -> list[Decision]:
    """Decisions of users who want just what one part would recommend."""
    plain = [toy.decide(user, day=CUT - 10 * (user % 5)) for user in range(USERS)]
    return [replace(d, target=of_parts(toy, d)[:, PARTS.index(part)].argmax().numpy()[None]) for d in plain]


@pytest.mark.parametrize("part", ["decoder", "dense", "own", "market"])
def test_the_part_that_is_right_gets_the_gate(part: str) -> None:
    toy = toy_model(seed=4, size=SMALL, use_dense=True)
    toy.model.config = replace(toy.model.config, decoder_cap=1.0)
    with torch.no_grad():
        toy.model.dense_temperature.fill_(3.5)  # as sure of itself as the others are
    share = fit_gate(toy.model, toy.collate, wanting_what(toy, part), CONFIG)
    assert sum(share) == pytest.approx(1, abs=1e-5)
    assert PARTS[int(np.argmax(share))] == part
    assert share[PARTS.index(part)] > 0.6


def test_the_decoder_never_gets_more_than_its_cap_beside_others() -> None:
    toy = toy_model(seed=4, size=SMALL)
    cap = toy.model.config.decoder_cap
    assert 0.9 * cap < fit_gate(toy.model, toy.collate, wanting_what(toy, "decoder"), CONFIG)[0] <= cap
    toy.model.config = replace(toy.model.config, use_own=False, use_market=False)
    assert fit_gate(toy.model, toy.collate, wanting_what(toy, "decoder"), CONFIG)[0] == pytest.approx(1, abs=1e-5)


def test_a_part_that_is_off_gets_nothing() -> None:
    toy = toy_model(seed=4, size=SMALL)
    decisions = wanting_what(toy, "own")
    with torch.no_grad():
        toy.model.gate.bias.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))
    assert fit_gate(toy.model, toy.collate, decisions, CONFIG)[PARTS.index("dense")] < 1e-20


def test_a_training_that_is_resumed_finds_the_same_gate() -> None:
    toy = toy_model(seed=4, size=SMALL)
    decisions = wanting_what(toy, "market")
    once = fit_gate(toy.model, toy.collate, decisions, CONFIG)
    assert fit_gate(toy.model, toy.collate, decisions, CONFIG) == once


def by_lot(toy: Toy, decision: Decision, random: np.random.Generator, *, own: bool = False) -> Decision:
    """Somebody who wants any item of the pool, or any that was bought before: beyond that there is nothing to know."""
    among = (
        decision.pool.item[decision.pool.feature[:, POOL_FEATURES.index("owned")] > 0] if own else decision.pool.item
    )
    return replace(decision, target=random.choice(among, 1))


def test_a_pointer_is_as_sure_of_itself_as_it_is_right() -> None:
    toy, random, heat = toy_model(seed=4, size=SMALL), np.random.default_rng(2), {}
    right = wanting_what(toy, "own")
    for kind, decisions in (("right", right), ("by lot", [by_lot(toy, d, random, own=True) for d in right])):
        fit_gate(toy.model, toy.collate, decisions, CONFIG)
        heat[kind] = float(toy.model.gate_heat[0].detach().exp())
    assert heat["right"] > 1.5 > 0.5 > heat["by lot"]


def test_a_part_that_learnt_its_training_by_heart_gets_little_on_kept_out_returns(tmp_path: Path) -> None:
    toy, random = toy_model(seed=1, size=SMALL), np.random.default_rng(5)
    learnt, kept_out = (
        [by_lot(toy, toy.decide(user, day=CUT - ago), random) for user in range(USERS)] for ago in (30, 0)
    )
    config = replace(CONFIG, epochs=150, batch=40, weight_decay=0.0)
    whole = toy.model.config
    toy.model.config = replace(whole, use_own=False, use_market=False)  # the decoder alone learns
    fit_taste(toy.model, toy.features.log, learnt, [], config, tmp_path, silent)
    toy.model.config = replace(whole, decoder_cap=1.0)
    decoder = PARTS.index("decoder")
    told, untold = (
        np.mean([float(of_parts(toy, d)[d.target[0], decoder].exp()) for d in some]) for some in (learnt, kept_out)
    )
    assert told > 0.5 > 0.2 > untold  # by heart, or this test shows nothing
    trusted, honest = (fit_gate(toy.model, toy.collate, some, config)[decoder] for some in (learnt, kept_out))
    assert trusted > 0.5 > 0.2 > honest
