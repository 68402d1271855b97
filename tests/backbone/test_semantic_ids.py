"""Semantic ids: quantisers, collisions, items that appear later, and the trie over them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rolegen_backbone import quantisers
from rolegen_backbone.events import Floats
from rolegen_backbone.tokenizer import RESERVE, SemanticIds
from rolegen_backbone.trie import Trie
from rolegen_errors import InputError, MissingExtraError, ProjectError


@pytest.fixture(scope="module")
def ids() -> SemanticIds:
    random = np.random.default_rng(1)
    embedding = random.normal(size=(60, 6)).astype(np.float32)
    embedding[40:] = embedding[20]  # twenty-one items that nothing tells apart
    return SemanticIds.fit(embedding, levels=2, codebook=5, seed=0)


def crowd(items: int, *, width: int = 12, seed: int = 0) -> Floats:
    """Items in kinds, some of them a hundred times as frequent as others, as catalogues have them."""
    random = np.random.default_rng(seed)
    kinds, share = random.normal(size=(40, width)), 1 / np.arange(1, 41) ** 1.3
    kind = random.choice(40, items, p=share / share.sum())
    return (kinds[kind] + 0.2 * random.normal(size=(items, width))).astype(np.float32)


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
    assert ids.sizes == (1, 1, 7 + RESERVE)


def test_near_items_share_a_prefix() -> None:
    random = np.random.default_rng(0)
    embedding = np.repeat(10 * np.eye(4), 10, axis=0) + random.normal(size=(40, 4)) * 0.1
    ids = SemanticIds.fit(embedding.astype(np.float32), levels=2, codebook=4, seed=0)
    groups = ids.codes[:, 0].reshape(4, 10)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0].tolist())) == 4


def test_the_balanced_quantiser_uses_every_code_about_equally_and_hardly_collides() -> None:
    embedding = crowd(1500)
    balanced, plain = (
        SemanticIds.fit(embedding, levels=2, codebook=64, seed=0, quantiser_name=name) for name in ("balanced", "plain")
    )
    assert balanced.use() == (1.0, 1.0)
    assert max(balanced.largest_load()) <= 1.15 < max(plain.largest_load())
    assert min(balanced.evenness()) > 0.99 > min(plain.evenness())
    assert balanced.collisions == 0 < plain.collisions


def test_balancing_keeps_most_of_what_the_codes_say() -> None:
    """Evenly loaded codes that say nothing would be easy to have."""
    embedding = crowd(1500)
    left = {}
    for name in ("balanced", "plain"):
        found = quantisers.quantiser(name)(embedding, 2, 64, 0)
        said = sum(book[code] for book, code in zip(found.centroids, found.codes.T, strict=True))
        left[name] = ((embedding - said) ** 2).sum() / ((embedding - embedding.mean(axis=0)) ** 2).sum()
    assert left["plain"] < left["balanced"] < 0.25


def test_what_is_fitted_on_a_part_of_a_large_catalogue_is_balanced_over_all_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quantisers, "SAMPLE", 700)
    monkeypatch.setattr(quantisers, "CHUNK", 256)
    ids = SemanticIds.fit(crowd(3000), levels=3, codebook=16, seed=0)
    assert ids.use() == (1.0, 1.0, 1.0)
    assert max(ids.largest_load()) <= 1.15
    assert len(np.unique(ids.codes, axis=0)) == 3000


def test_what_disk_says_of_use_and_balance(ids: SemanticIds, tmp_path: Path) -> None:
    ids.save(tmp_path)
    told = json.loads((tmp_path / "semantic_ids.json").read_text())
    assert told["quantiser"] == "balanced"
    assert told["use"] == [1.0, 1.0]
    load = np.bincount(ids.codes[:, 0])
    assert told["largest_load"][0] == pytest.approx(load.max() / load.mean())
    assert told["collisions"] == ids.collisions


def test_an_autoencoder_may_quantise_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    monkeypatch.setattr(quantisers, "STEPS", 100)
    embedding = crowd(400)
    before = torch.random.get_rng_state()
    ids = SemanticIds.fit(embedding, levels=2, codebook=8, seed=0, quantiser_name="rqvae")
    assert torch.equal(torch.random.get_rng_state(), before)  # what is trained next does not depend on the quantiser
    assert min(ids.use()) >= 0.95
    assert len(np.unique(ids.codes, axis=0)) == 400
    # Its codes say something: items of one code lie closer together than any two.
    code = ids.codes[:, 0]
    within = sum(((embedding[code == c] - embedding[code == c].mean(axis=0)) ** 2).sum() for c in range(8))
    assert within < 0.6 * ((embedding - embedding.mean(axis=0)) ** 2).sum()
    # An item just like one of the catalogue is near it: the autoencoder's own map is kept.
    grown = ids.extend(embedding[:20])
    assert np.array_equal(grown.codes[400:, 0], ids.codes[:20, 0])


def test_a_missing_autoencoder_and_an_unknown_quantiser_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisers, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rolegen-agent\[rqvae\]'"):
        SemanticIds.fit(crowd(20), levels=2, codebook=4, seed=0, quantiser_name="rqvae")
    with pytest.raises(InputError, match="choose one of balanced, plain, rqvae"):
        SemanticIds.fit(crowd(20), levels=2, codebook=4, seed=0, quantiser_name="magic")


@pytest.mark.parametrize("name", ["balanced", "plain"])
def test_new_items_get_ids_near_their_own_place_and_nobody_else_moves(name: str) -> None:
    known, new = crowd(600), crowd(300, seed=0)[:200] + np.float32(0.01)
    ids = SemanticIds.fit(known, levels=3, codebook=16, seed=0, quantiser_name=name)
    grown = ids.extend(new)
    assert grown.sizes == ids.sizes
    assert np.array_equal(grown.codes[:600], ids.codes)
    assert len(np.unique(grown.codes, axis=0)) == 800
    assert (grown.codes < np.array(grown.sizes)).all()
    # On all levels but the last they have the codes that residual quantisation gives them.
    left = new
    for level, book in enumerate(ids.centroids[:-1]):
        nearest = (((left[:, None] - book) ** 2).sum(axis=2) + ids.prices[level]).argmin(axis=1)
        assert np.array_equal(grown.codes[600:, level], nearest)
        left = left - book[nearest]
    # On the last one they have the nearest that was free.
    gap = ((left[:, None] - ids.centroids[-1]) ** 2).sum(axis=2) + ids.prices[-1]
    taken = {tuple(code) for code in ids.codes[:, :-1].tolist()}
    for row, code in enumerate(grown.codes[600:].tolist()):
        free = [k for k in range(16) if (*code[:2], k) not in taken]
        assert code[2] == min(free or range(16), key=gap[row].__getitem__)
        assert (code[3] == 0) == bool(free)
        taken.add(tuple(code[:-1]))


@pytest.mark.parametrize("name", ["balanced", "plain"])
def test_an_item_just_like_one_of_the_catalogue_comes_to_its_place(name: str) -> None:
    known = crowd(600)
    ids = SemanticIds.fit(known, levels=3, codebook=16, seed=0, quantiser_name=name)
    again = ids.extend(known).codes[600:]
    assert (again[:, :2] == ids.codes[:, :2]).all(axis=1).mean() > 0.95


def test_new_items_are_added_alike_at_once_or_one_by_one() -> None:
    ids, new = SemanticIds.fit(crowd(300), levels=2, codebook=16, seed=0), crowd(40, seed=3)
    one_by_one = ids
    for row in range(40):
        one_by_one = one_by_one.extend(new[row : row + 1])
    assert np.array_equal(one_by_one.codes, ids.extend(new).codes)
    assert ids.extend(new[:0]).codes.shape == ids.codes.shape


def test_a_crowded_corner_spills_over_until_no_id_is_left() -> None:
    known = crowd(30, width=3)
    ids = SemanticIds.fit(known, levels=2, codebook=4, seed=0, reserve=2)
    room = 4 * 4 * ids.sizes[-1] - 30
    grown = ids.extend(np.repeat(known[:1], room, axis=0))
    assert len(np.unique(grown.codes, axis=0)) == room + 30
    places = grown.codes[30:, 0]
    assert np.count_nonzero(np.diff(places, prepend=-1)) == 4  # one place after the other
    with pytest.raises(ProjectError, match="no free semantic id near new item 1 of 2"):
        grown.take(np.arange(room + 29)).extend(known[:2])


def test_ids_come_back_from_disk(ids: SemanticIds, tmp_path: Path) -> None:
    ids.save(tmp_path)
    again = SemanticIds.load(tmp_path)
    assert again.sizes == ids.sizes
    assert np.array_equal(again.codes, ids.codes)
    more = crowd(30, width=6, seed=5)
    assert np.array_equal(again.extend(more).codes, ids.extend(more).codes)
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
            child, entered, there = trie.below(level, torch.tensor(node))
            node = dict(zip(entered[there].tolist(), child[there].tolist(), strict=True))[digit]
        assert int(trie.item[node]) == item
    for level in range(len(ids.sizes)):
        _, _, there = trie.below(level, torch.arange(trie.nodes[level]))
        assert int(there.sum()) == len(prefixes[level + 1])  # and no child that no item has


def test_alive_marks_the_codes_above_available_items(ids: SemanticIds) -> None:
    trie = Trie(ids.codes, ids.sizes)
    available = np.random.default_rng(2).random(60) < 0.2
    open_codes = [tuple(code) for code in ids.codes[available].tolist()]
    alive = trie.alive(available)
    for item, code in enumerate(ids.codes.tolist()):
        for level in range(len(code)):
            expected = any(other[: level + 1] == tuple(code[: level + 1]) for other in open_codes)
            assert bool(alive[level][int(trie.node[item, level + 1])]) == expected, (item, level)
    assert not any(bool(table.any()) for table in trie.alive(np.zeros(60, bool)))
