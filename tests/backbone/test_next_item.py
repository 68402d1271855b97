"""Training at every position: nothing from behind leaks in, each position's loss is its own decision's, a chain is learnt."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rolegen_backbone.decoding import beam_search, decoder_alone
from rolegen_backbone.item_cross_entropy import item_cross_entropy, sampled_cross_entropy
from rolegen_backbone.model import Backbone, BackboneConfig
from rolegen_backbone.next_item_training import (
    NextItemConfig,
    encode_histories,
    fit_next_item,
    history_batch,
    position_losses,
)
from rolegen_backbone.serving import prepare
from rolegen_backbone.trie import Trie
from rolegen_errors import InputError, ProjectError

ITEMS = 24
SIZES = (6, 4)
FAST = NextItemConfig(epochs=12, positions=64, learning_rate=1e-2, warm_up=5)


def model(seed: int = 0, **changes: object) -> Backbone:
    torch.manual_seed(seed)
    config = BackboneConfig(
        items=ITEMS,
        content=5,
        sizes=SIZES,
        roles=1,
        width=16,
        heads=2,
        layers=2,
        history=12,
        dropout=0.0,
        use_dense=True,
        use_own=False,
        use_market=False,
        use_ids=True,
        causal=True,
    )
    codes = np.stack([np.arange(ITEMS) // 4, np.arange(ITEMS) % 4], axis=1)
    made = Backbone(
        dataclasses.replace(config, **changes),  # type: ignore[arg-type]
        torch.randn(ITEMS, 5, generator=torch.Generator().manual_seed(1)),
        torch.from_numpy(codes),
        Trie(codes, SIZES),
    ).eval()
    with torch.no_grad():  # as if it had learnt something: all of these begin at zero
        for layer in made.layers:
            if isinstance(near := layer.near, torch.nn.Parameter):
                near.normal_()
        if made.item_bias is not None:
            made.item_bias.normal_()
    return made


def chain(count: int, length: int = 8) -> list[np.ndarray]:
    """Everybody walks from item to next item, round and round."""
    return [(np.arange(length) + start) % ITEMS for start in range(count)]


def test_a_later_event_changes_no_earlier_state() -> None:
    made, one, other = model(), np.array([3, 7, 1, 9, 2]), np.array([3, 7, 1, 20, 11])
    with torch.no_grad():
        first, second = (made.encode(history_batch([own], 12)).memory_BTD[0] for own in (one, other))
    assert first[:4].numpy() == pytest.approx(second[:4].numpy(), abs=1e-6)  # the user's token and three equal events
    assert (first[4] - second[4]).abs().max() > 1e-3
    assert (first[5] - second[5]).abs().max() > 1e-3


def test_order_matters_to_a_causal_encoder() -> None:
    made = model()
    with torch.no_grad():
        states = made.encode(history_batch([np.array([3, 7, 1]), np.array([7, 3, 1])], 12)).state_BD
    assert (states[0] - states[1]).abs().max() > 1e-3


@pytest.mark.parametrize("others", [[], [np.arange(9) + 10]], ids=["alone", "padded beside a longer one"])
def test_the_loss_of_all_positions_is_that_of_each_decision_alone(others: list[np.ndarray]) -> None:
    made, histories = model(), [np.array([3, 7, 1, 9, 2, 15]), *others]
    decoder, dense, count = 0.0, 0.0, 0
    with torch.no_grad():
        for own in histories:
            for place in range(1, len(own)):
                encoded = made.encode(history_batch([own[:place]], 12))
                target = torch.tensor([[own[place]]])
                decoder -= float(made.decode_targets(encoded, target))
                dense -= float(made.log_dense(encoded.state_BD).gather(1, target))
                count += 1
        sums, targets = position_losses(made, histories)
    assert targets == count
    assert float(sums[0]) == pytest.approx(decoder, rel=1e-4)
    assert float(sums[1]) == pytest.approx(dense, rel=1e-2)  # products in bfloat16


def test_fused_cross_entropy_has_the_value_and_gradients_of_the_plain_one() -> None:
    torch.manual_seed(0)
    state, item = torch.randn(600, 16, requires_grad=True), torch.randn(70, 16, requires_grad=True)
    bias, target = torch.randn(70, requires_grad=True), torch.randint(70, (600,))
    plain = F.cross_entropy(state @ item.T + bias, target, reduction="sum")
    wanted = torch.autograd.grad(plain, [state, item, bias])
    fused = item_cross_entropy(state, item, bias, target)
    found = torch.autograd.grad(fused / 2, [state, item, bias])
    assert float(fused.detach()) == pytest.approx(float(plain.detach()), rel=5e-3)
    for one, other in zip(found, wanted, strict=True):
        assert (2 * one - other).norm() < 0.02 * other.norm()


def test_sampling_every_item_is_no_sampling() -> None:
    torch.manual_seed(0)
    state, item, bias, target = torch.randn(40, 16), torch.randn(30, 16), torch.randn(30), torch.randint(30, (40,))
    whole = F.cross_entropy(state @ item.T + bias, target, reduction="sum")
    assert float(sampled_cross_entropy(state, item, bias, target, torch.arange(30))) == pytest.approx(
        float(whole), rel=5e-3
    )


@pytest.mark.parametrize("negatives", [0, 16])
def test_a_chain_is_learnt_by_both_parts(tmp_path: Path, negatives: int) -> None:
    made = model()
    config = dataclasses.replace(FAST, negatives=negatives)
    curve = fit_next_item(made, chain(96), config, folder=tmp_path, progress=lambda *told: None)
    assert len(curve) == 12
    assert curve[-1] < 0.5 * curve[0]
    known = [np.array([5, 6, 7]), np.array([22, 23, 0, 1])]
    ((rows, encoded),) = encode_histories(made, known)
    with torch.no_grad():
        dense = made.log_dense(encoded.state_BD).argmax(dim=1)
        every = torch.ones(ITEMS, dtype=torch.bool)
        semantic = beam_search(
            made, encoded, decoder_alone(encoded), alive=made.trie.alive(every.numpy()), available=every, size=1, beam=5
        )
    assert rows.tolist() == [0, 1]
    assert dense.tolist() == [8, 2]
    assert semantic.item_BN[:, 0].tolist() == [8, 2]


def test_a_training_that_was_stopped_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    config, quiet = dataclasses.replace(FAST, epochs=4), lambda *told: None
    whole, resumed = model(dropout=0.2), model(dropout=0.2)
    fit_next_item(whole, chain(40), config, folder=tmp_path / "whole", progress=quiet)
    with pytest.raises(KeyboardInterrupt):
        fit_next_item(resumed, chain(40), config, folder=tmp_path / "stopped", progress=stop)
    resumed = model(seed=5, dropout=0.2)
    fit_next_item(resumed, chain(40), config, folder=tmp_path / "stopped", progress=quiet)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    with pytest.raises(ProjectError, match="other settings"):
        fit_next_item(model(), chain(41), config, folder=tmp_path / "stopped", progress=quiet)


@pytest.mark.parametrize("own_codes", [False, True])
def test_a_served_copy_answers_alike(own_codes: bool) -> None:
    made = model(own_codes=own_codes)
    served = prepare(made)
    batch = history_batch([np.array([3, 7, 1]), np.array([7, 3, 1, 20])], 12)
    target = torch.tensor([[1, 2], [3, 4]])
    with torch.no_grad():
        for one, other in ((made, served),):
            first, second = one.encode(batch), other.encode(batch)
            assert one.log_dense(first.state_BD).numpy() == pytest.approx(
                other.log_dense(second.state_BD).numpy(), abs=1e-4
            )
            assert one.decode_targets(first, target).numpy() == pytest.approx(
                other.decode_targets(second, target).numpy(), abs=1e-4
            )


def test_a_model_that_sees_everything_cannot_learn_every_position(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="causal"):
        fit_next_item(model(causal=False), chain(4), FAST, folder=tmp_path, progress=lambda *told: None)


def test_switches_that_are_off_make_no_weights() -> None:
    names = dict(model(use_ids=False, causal=False).named_parameters())
    assert not [name for name in names if name.endswith(".near") or name.startswith(("item_", "prefix_"))]
    assert {"item_in", "item_bias", "layers.0.near"} <= dict(model().named_parameters()).keys()


def test_prefix_codes_of_its_own_begin_as_long_as_the_state() -> None:
    made = model(own_codes=True)
    (table,) = made.told_in.parameters()  # nothing follows the last level's code
    state = made.encode(history_batch([np.array([3, 7, 1])], 12)).state_BD
    assert table.shape == (SIZES[0], 16)
    assert float(table.norm(dim=1).mean().detach()) == pytest.approx(float(state.norm().detach()), rel=0.2)
