"""The trie: real children only, small however wide the codebooks are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rolegen_backbone.trie import Trie
from rolegen_errors import InputError

CODES = np.array([[2, 0, 5], [2, 3, 1], [2, 3, 4], [0, 1, 1]])


@pytest.fixture
def trie() -> Trie:
    return Trie(CODES, (3, 4, 6))


def test_the_children_of_a_node_are_those_that_items_have(trie: Trie) -> None:
    child, code, there = trie.below(0, torch.tensor([0]))
    assert code[there].tolist() == [0, 2]
    _, code, there = trie.below(1, child[0])
    assert [row[real].tolist() for row, real in zip(code, there, strict=True)] == [[1], [0, 3]]


def test_what_is_no_node_has_no_children_and_does_not_branch(trie: Trie) -> None:
    for level in range(3):
        _, _, there = trie.below(level, torch.tensor([[-1, 0]]))
        assert there.any(dim=-1).tolist() == [[False, True]]
        assert not trie.branching(level, torch.tensor([-1])).any()


def test_a_node_branches_while_more_than_one_item_lies_below(trie: Trie) -> None:
    below = trie.node[:, 1].long()
    assert trie.branching(1, below).tolist() == [True, True, True, False]
    assert trie.branching(2, trie.node[:, 2].long()).tolist() == [False, True, True, False]
    assert trie.fan == (2, 2, 2)


def test_two_items_with_the_same_id_are_refused() -> None:
    with pytest.raises(InputError, match="1 items share all their codes"):
        Trie(np.array([[0, 1], [1, 1], [0, 1]]), (2, 2))


def test_tables_grow_with_the_items_and_not_with_the_codebooks() -> None:
    random = np.random.default_rng(0)
    flat = random.choice(4096**3, 5_000, replace=False)
    trie = Trie(np.stack([flat // 4096**2, flat // 4096 % 4096, flat % 4096], axis=1), (4096,) * 3)
    assert sum(table.numel() * table.element_size() for table in trie.buffers()) < 100 * 5_000


def test_a_model_in_bfloat16_keeps_its_trie(trie: Trie) -> None:
    assert trie.bfloat16().below(0, torch.tensor([0]))[1].tolist() == [[0, 2]]
    assert not trie.state_dict()  # ids are stored on their own
