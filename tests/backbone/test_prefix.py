"""Roles of events reach the model: the key events stand before the codes, and a decoder learns to follow them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rolegen_backbone.events import DAY, Baskets
from rolegen_backbone.examples import KEYS, NO_HINT, Collator, Decision
from rolegen_backbone.features import Features
from rolegen_backbone.item_space import ItemSpace
from rolegen_backbone.model import Backbone, BackboneConfig
from rolegen_backbone.taste_training import fit_taste
from rolegen_backbone.training import TrainConfig
from rolegen_backbone.trie import Trie

from .conftest import CUT, ROLES, Row, Toy, catalogue, item_ids, log_of, silent, toy_model

FAR = 40
"""more events than the toy's history of 24 holds"""


def test_roles_stand_at_their_events_and_the_key_events_are_the_first_named(toy: Toy) -> None:
    plain = toy.decide(5)
    decision = toy.read(plain, 3, 0, 7, 5, 1, 2)
    batch = toy.collate.batch([decision, plain])
    length = int(batch.event_mask_BT[0].sum())
    role = [0] * length
    for back in (3, 0, 7, 5, 1, 2):
        role[length - 1 - back] = back % ROLES + 1
    assert batch.event_role_BT[0, :length].tolist() == role
    assert batch.key_BY[0].tolist() == sorted(length - 1 - back for back in (3, 0, 7, 5)[:KEYS])
    assert batch.key_mask_BY.tolist() == [[True] * KEYS, [False] * KEYS]
    assert not batch.event_role_BT[1].any()


def test_events_that_are_unknown_or_too_old_are_left_out() -> None:
    rows = [Row("u", f"i{k % 24:02d}", CUT - 100 + k) for k in range(FAR)]
    log = log_of(rows, item_ids())
    features = Features(log, np.ones(24, np.float32), np.zeros((24, 1), np.float32))
    hint = replace(NO_HINT, event=np.array([999, 0, FAR - 1]), event_role=np.array([0, 1, 2]))
    at = CUT * DAY
    batch = Collator(log, 24).batch([Decision(0, at, features.pool(0, at), hint)])
    assert batch.event_role_BT[0].tolist() == [0] * 23 + [3]
    assert batch.key_BY.tolist() == [[23]]


def test_roles_change_what_the_decoder_says_but_not_what_the_pointers_say(toy: Toy) -> None:
    plain = toy.decide(5)
    every = torch.arange(24).expand(2, 24)
    with torch.no_grad():
        batch = toy.collate.batch([plain, toy.read(plain, 0, 4)])
        without, told = toy.model.decode_targets(toy.model.encode(batch), every)
        score = toy.model.point(batch).score
    assert float((without - told).abs().max()) > 0.05
    assert score[0].numpy() == pytest.approx(score[1].numpy(), abs=1e-5)


def test_a_model_without_prefix_does_not_hear_of_roles() -> None:
    toy = toy_model(seed=1)
    config = replace(toy.model.config, use_prefix=False)
    model = Backbone(config, toy.model.content[1:], toy.model.codes, toy.model.trie).eval()
    plain = toy.decide(5)
    with torch.no_grad():
        encoded = model.encode(toy.collate.batch([plain, toy.read(plain, 0, 4)]))
        told = model.decode_targets(encoded, torch.arange(24).expand(2, 24))
    assert told[0].numpy() == pytest.approx(told[1].numpy(), abs=1e-4)


def test_a_share_without_key_events_has_the_gradients_of_one_with_them() -> None:
    """Processes of one training add up their gradients in order; a missing one would shift all that follow."""
    toy = toy_model(seed=3)
    plain = replace(toy.decide(5), target=np.array([1]))
    missing = []
    for decision in (plain, toy.read(plain, 0, 4)):
        toy.model.train().zero_grad(set_to_none=True)
        batch = toy.collate.batch([decision])
        toy.model.decode_targets(toy.model.encode(batch), torch.tensor([[1]])).sum().backward()
        missing.append({name for name, weight in toy.model.named_parameters() if weight.grad is None})
    assert missing[0] == missing[1] and "key_in" not in missing[0]


@pytest.mark.parametrize("silence", [0.0, 1.0])
def test_a_decoder_learns_which_event_the_next_order_follows_from(tmp_path: Path, silence: float) -> None:
    """Each order is what goes with one of the last six events; only a role tells with which. Asked are other users."""
    random, users, held_out = np.random.default_rng(0), 500, 100
    rows, key = [], random.integers(6, size=users)
    for user in range(users):
        items = random.choice(24, 6, replace=False)
        rows += [Row(f"u{user:03d}", f"i{item:02d}", CUT - 60 + place) for place, item in enumerate(items)]
        rows.append(Row(f"u{user:03d}", f"i{(items[key[user]] + 1) % 24:02d}", CUT - 30))
    log = log_of(rows, item_ids())
    space = ItemSpace.fit(
        catalogue(), Baskets.of(log), levels=2, codebook=6, quantiser="balanced", encoder=None, seed=0
    )
    features = Features(log, np.ones(24, np.float32), space.text)

    def decision(user: int) -> Decision:
        first = int(log.start[user])
        told = replace(NO_HINT, event=log.event[[first + key[user]]], event_role=np.zeros(1, np.int64))
        at = (CUT - 31) * DAY
        return Decision(user, at, features.pool(user, at), told, log.item[[first + 6]])

    decisions = [decision(user) for user in range(users)]
    torch.manual_seed(0)
    model = Backbone(
        BackboneConfig(
            items=24, content=space.content.shape[1], sizes=space.ids.sizes, roles=ROLES, width=32, layers=1,
            history=8, dropout=0.0, use_own=False, use_market=False,
        ),
        torch.from_numpy(space.content), torch.from_numpy(space.ids.codes), Trie(space.ids.codes, space.ids.sizes),
    )  # fmt: skip
    config = TrainConfig(epochs=40, batch=32, learning_rate=1e-2, weight_decay=0.0, unknown_item=0.0, silence=silence)
    fit_taste(model.eval(), log, decisions[held_out:], [], config, tmp_path, silent)

    def probability(asked: list[Decision]) -> float:
        target = torch.from_numpy(np.stack([d.target for d in asked]))
        with torch.no_grad():
            return float(model.decode_targets(model.encode(Collator(log, 8).batch(asked)), target).exp().mean())

    told = probability(decisions[:held_out])
    unread = probability([replace(d, hint=NO_HINT) for d in decisions[:held_out]])
    assert told > 0.5 and told > 3 * unread, "without its role any of six events may be the one"
