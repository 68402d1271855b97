"""Semantic ids, the embedding they are made from, and the trie over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rolegen_backbone.embedding import item_embedding, text_embedding
from rolegen_backbone.events import Baskets
from rolegen_backbone.tokenizer import SemanticIds
from rolegen_backbone.trie import Trie
from rolegen_errors import ProjectError

from .conftest import Row, log_of


@pytest.fixture(scope="module")
def ids() -> SemanticIds:
    random = np.random.default_rng(1)
    embedding = random.normal(size=(60, 6)).astype(np.float32)
    embedding[40:] = embedding[20]  # twenty-one items that nothing tells apart
    return SemanticIds.fit(embedding, levels=2, codebook=5, seed=0)


def test_every_item_has_an_id_of_its_own(ids: SemanticIds) -> None:
    assert len(np.unique(ids.codes, axis=0)) == 60
    assert (ids.codes >= 0).all()
    assert (ids.codes < np.array(ids.sizes)).all()


def test_items_that_nothing_tells_apart_share_their_prefix_and_differ_in_the_last_digit(ids: SemanticIds) -> None:
    same = ids.codes[[20, *range(40, 60)]]
    assert len(np.unique(same[:, :-1], axis=0)) == 1
    assert len(np.unique(same[:, -1])) == 21
    prefixes = len(np.unique(ids.codes[:, :-1], axis=0))
    assert ids.collisions == 60 - prefixes >= 20


def test_a_catalogue_of_equal_items_still_works() -> None:
    ids = SemanticIds.fit(np.zeros((7, 3), np.float32), levels=2, codebook=4, seed=0)
    assert sorted(ids.codes[:, -1].tolist()) == list(range(7))
    assert ids.sizes == (1, 1, 7)


def test_near_items_share_a_prefix() -> None:
    random = np.random.default_rng(0)
    embedding = np.repeat(10 * np.eye(4), 10, axis=0) + random.normal(size=(40, 4)) * 0.1
    ids = SemanticIds.fit(embedding.astype(np.float32), levels=2, codebook=4, seed=0)
    groups = ids.codes[:, 0].reshape(4, 10)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == 4


def test_ids_come_back_from_disk(ids: SemanticIds, tmp_path: Path) -> None:
    ids.save(tmp_path)
    again = SemanticIds.load(tmp_path)
    assert again.sizes == ids.sizes
    assert np.array_equal(again.codes, ids.codes)
    with pytest.raises(ProjectError, match="no semantic ids"):
        SemanticIds.load(tmp_path / "elsewhere")


def test_the_trie_has_exactly_the_prefixes_of_its_items(ids: SemanticIds) -> None:
    trie = Trie(ids.codes, ids.sizes)
    codes = [tuple(code) for code in ids.codes.tolist()]
    prefixes = [{code[:level] for code in codes} for level in range(len(ids.sizes) + 1)]
    assert trie.nodes == tuple(len(level) for level in prefixes)
    for item, code in enumerate(codes):
        node = 0
        for level, digit in enumerate(code):
            assert int(trie.node[item, level]) == node
            node = int(trie.child[level][node, digit])
        assert int(trie.item[node]) == item
    for level, table in enumerate(trie.child):
        assert int((table >= 0).sum()) == len(prefixes[level + 1])  # and no child that no item has


def test_alive_marks_the_codes_above_available_items(ids: SemanticIds) -> None:
    trie = Trie(ids.codes, ids.sizes)
    available = np.random.default_rng(2).random(60) < 0.2
    open_codes = [tuple(code) for code in ids.codes[available].tolist()]
    alive = trie.alive(available)
    for item, code in enumerate(ids.codes.tolist()):
        for level in range(len(code)):
            node = int(trie.node[item, level])
            expected = any(other[: level + 1] == tuple(code[: level + 1]) for other in open_codes)
            assert bool(alive[level][node, code[level]]) == expected, (item, level)
    assert not any(bool((table & (child < 0)).any()) for table, child in zip(alive, trie.child, strict=True))
    assert not any(bool(table.any()) for table in trie.alive(np.zeros(60, bool)))


def test_the_embedding_moves_from_text_to_behaviour_with_maturity() -> None:
    rows = [Row(f"u{k}", item, 10 + k) for k in range(60) for item in ("a", "b")] + [Row("u0", "c", 300)]
    baskets = Baskets.of(log_of(rows, ["a", "b", "c", "d"]))
    price = np.array([1.0, 2.0, np.nan, 4.0], np.float32)
    titles = ["red mug", "blue mug", "red lamp", "green clock"]
    content = item_embedding(titles, [None, "mugs", None, None], price, baskets, width=3, seed=0)
    assert content.shape == (4, 7)
    assert np.isfinite(content).all()
    behaviour = np.linalg.norm(content[:, 3:6], axis=1)
    text = np.linalg.norm(content[:, :3], axis=1)
    assert behaviour[0] == pytest.approx(np.sqrt(60 / 80), abs=1e-5)
    assert behaviour[3] == 0.0
    assert text[3] == pytest.approx(1.0, abs=1e-5)
    assert text[0] < text[3]


@pytest.mark.parametrize("titles", [["", " "], ["***", "!!"], ["?", ""]])
def test_titles_without_a_word_are_no_reason_to_fail(titles: list[str]) -> None:
    text = text_embedding(titles, width=4, seed=0)
    assert text.shape == (2, 4)
    assert np.isfinite(text).all()


@pytest.mark.filterwarnings("error")
def test_a_shop_where_nobody_buys_two_things_at_once_has_no_behaviour_to_embed() -> None:
    baskets = Baskets.of(log_of([Row(f"u{k}", item, 10 + k) for k in range(9) for item in "abc"[k % 3]], list("abcd")))
    content = item_embedding(["red mug"] * 4, [None] * 4, np.full(4, np.nan, np.float32), baskets, width=3, seed=0)
    assert np.isfinite(content).all()
    assert not content[:, 3:].any()
