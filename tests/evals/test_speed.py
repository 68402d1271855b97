"""The speed benchmark counts honestly: only work that must be done, only places that hold an item."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rolegen_backbone.serving import prepare
from rolegen_errors import MissingExtraError
from rolegen_evals.results import Result
from rolegen_evals.speed import SLATE, _valid, beside_t5, best_seconds, exactness
from rolegen_evals.speed_shop import (
    Server,
    Shape,
    T5Peer,
    backbone,
    batch_of,
    branching_codes,
    drawn_codes,
    must_do_flops,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "shape", [Shape(width=32, layers=1, decoder_layers=2), Shape(width=64, layers=3, decoder_layers=1)]
)
def test_what_must_be_done_is_what_a_counter_sees_but_for_logits_of_codes_that_are_no_child(shape: Shape) -> None:
    fan, beam, events, users = (8, 8, 2, 2), 5, 6, 3
    codes = np.indices(fan).reshape(4, -1).T
    server = Server.of(prepare(backbone(codes, fan, shape)))
    batch = batch_of(len(codes), users, events, CPU)
    with FlopCounterMode(display=False) as counter:
        server.slate(batch, beam)
    done = counter.get_total_flops() / users
    must = must_do_flops(shape, events=events, beam=beam, fan=fan)
    # The counter sees neither attention kernel of a CPU; all else beside the matrices of the count is small.
    d, T, codes_so_far = shape.width, events + 1, beam * (2 + 3 + 4)
    attention = shape.layers * 4 * d * T * T + shape.decoder_layers * 4 * d * ((1 + 3 * beam) * T + codes_so_far)
    assert must - attention <= done <= 1.05 * must


def test_the_count_is_the_sum_that_the_docstring_names() -> None:
    # d = 2, T = 3, one layer each; level 0 with 3 children, then 2 beams with 4 children each
    encoder, memory = 24 * 4 * 3 + 4 * 2 * 9, 4 * 4 * 3
    first = 28 * 4 + 4 * 2 * 3 + 4 * 2 - (2 * 4 + 4 * 2) + 2 * 2 * 3
    second = 2 * (28 * 4 + 4 * 2 * 3 + 4 * 2 * 2 + 2 * 2 * 4)
    found = must_do_flops(Shape(width=2, layers=1, decoder_layers=1), events=2, beam=2, fan=(3, 4))
    assert found == encoder + memory + first + second


def test_made_up_ids_are_distinct_and_uneven_and_the_branching_ones_leave_no_shortcut() -> None:
    codes, sizes = drawn_codes(3_000)
    assert len(np.unique(codes, axis=0)) == 3_000
    assert (codes < np.array(sizes)).all()
    assert np.bincount(codes[:, 0]).max() > 3 * 3_000 / 256
    codes, sizes = branching_codes()
    for level, fan in enumerate((256, 256, 2, 2)):
        assert len(np.unique(codes[:, : level + 1], axis=0)) == fan * len(np.unique(codes[:, :level], axis=0))
    assert sizes == (256,) * 4


def test_a_place_counts_once_and_only_with_an_item_in_stock() -> None:
    stock = np.array([True] * 11 + [False])
    good = list(range(SLATE))
    bad = [0, 0, None, -1, 11, 5, 6, 7, 8, 9]
    assert _valid([good], stock) == 1.0
    assert _valid([good, bad], stock) == pytest.approx((10 + 6) / 20)


def test_the_best_round_counts_and_the_first_call_does_not() -> None:
    called: list[str] = []
    found = best_seconds({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2, CPU)
    assert called == ["a", "b"] * 3  # they take turns
    assert all(0 <= seconds < 1 for seconds in found.values())


def test_the_search_is_exact_and_bfloat16_agrees_with_it() -> None:
    found = exactness(CPU)
    assert found["small.exact.rolegen_fp32"] == 1.0
    assert found["small.overlap10.rolegen_bf16"] > 0.9


def test_beside_t5_every_place_of_both_holds_an_item() -> None:
    pytest.importorskip("transformers")
    figures = beside_t5(CPU, users=2, rounds=1, beams=(10,))
    assert {value for key, value in figures.items() if ".valid." in key} == {1.0}
    assert figures["parameters.number.rolegen"] == pytest.approx(figures["parameters.number.t5"], rel=0.05)
    peer = max(figures["beam10.users_per_s.t5_fp32"], figures["beam10.users_per_s.t5_bf16"])
    ours = figures["beam10.users_per_s.rolegen_bf16"]
    assert figures["beam10.times_t5.rolegen_bf16"] == pytest.approx(ours / peer)
    Result(name="speed", commit="", machine="", seconds=0.0, figures=figures)  # names and numbers as results have them


def test_t5_finds_the_best_paths_that_exhaustive_scoring_finds() -> None:
    """The peer is a fair one: its search is as exact as ours."""
    pytest.importorskip("transformers")
    codes = np.indices((4, 5)).reshape(2, -1).T
    peer = T5Peer(codes, (4, 5), torch.float32, CPU)
    batch = batch_of(len(codes), 2, 3, CPU)
    slates = peer.reader(batch)(20)
    history = torch.from_numpy(peer.tokens)[batch.item_BT - 1].flatten(1)
    for row, slate in enumerate(slates):
        labels = torch.from_numpy(peer.tokens).contiguous()
        with torch.no_grad():
            logits = peer.model(input_ids=history[row : row + 1].expand(20, -1), labels=labels).logits.log_softmax(-1)
        first, second = (logits[:, level].gather(1, labels[:, level : level + 1]).squeeze(1) for level in range(2))
        best = (first + second).topk(SLATE).indices.tolist()
        assert set(slate) == set(best)


def test_without_transformers_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"rolegen-agent\[bench\]"):
        T5Peer(np.array([[0], [1]]), (2,), torch.float32, CPU)
