"""TF-IDF over titles, by words and pairs of words and by character n-grams, which forgive spelling and inflection."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from .similarity import Floats, Ints
from .word_index import WordIndex

WORD_SHARE = 0.6
"""weight of whole words against character n-grams"""
Vector = npt.NDArray[np.float32]


class TfidfSimilarity:
    """Exact cosines by sparse products; with an index only over what it names.

    Args:
        words, grams: fitted vectorizers.
        rows: (items, features) unit rows.
        index: names likely items of a large catalogue.
    """

    threshold = 0.25
    few = 5_000

    def __init__(
        self,
        words: TfidfVectorizer,
        grams: TfidfVectorizer,
        rows: sparse.csr_matrix,
        columns: sparse.csr_matrix,
        index: WordIndex | None = None,
    ) -> None:
        self._words, self._grams, self._rows, self._columns, self._index = words, grams, rows, columns, index
        # Decisions ask for the same titles over and over; what is kept grows with the catalogue.
        self._near = lru_cache(maxsize=min(4_096, max(64, 200_000_000 // rows.shape[0])))(self._search)
        self._query = lru_cache(maxsize=4_096)(lambda text: _vectors(self._words, self._grams, [text]))

    @classmethod
    def fit(cls, titles: Sequence[str], otherwise: Sequence[str]) -> TfidfSimilarity:
        """Over cleaned ``titles``.

        Args:
            otherwise: texts for the vocabulary where no title holds a word at all; a search needs one.
        """
        words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+", ngram_range=(1, 2), dtype=np.float32)
        grams = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4), dtype=np.float32)
        if any(any(c.isalnum() for c in title) for title in titles):
            rows = _joined(words.fit_transform(titles), grams.fit_transform(titles))
        else:
            words.fit(otherwise)
            grams.fit(otherwise)
            rows = _vectors(words, grams, titles)
        return cls(words, grams, rows, sparse.csr_matrix(rows.T))

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return self._index is not None

    def prepare(self, texts: Sequence[str]) -> None:
        """Nothing: a text costs as much alone as among others."""

    def of(self, text: str, codes: Ints) -> Floats:
        """(len(codes),) exact cosines."""
        query = self._query(text)
        dense: Vector = np.zeros(query.shape[1], np.float32)
        dense[query.indices] = query.data
        # Added up feature by feature in the order of `near`: equal titles have equal scores, to the last bit.
        scores: Floats = np.minimum((self._rows[codes] @ dense).astype(np.float64), 1.0)
        return scores

    def near(self, text: str, least: float) -> tuple[Ints, Floats]:
        """Every item whose cosine is at least ``least``, in order of codes."""
        found: tuple[Ints, Floats] = self._near(text, least)
        return found

    def nearest(self, text: str, allowed: Ints, category: int | None, among: int) -> Ints | None:
        """What the index names; see :meth:`~.word_index.WordIndex.nearest`."""
        return None if self._index is None else self._index.nearest(text, allowed, category, among)

    def save(self, folder: Path) -> None:
        """Write vocabularies and matrices; no index."""
        for name, vectorizer in (("words", self._words), ("grams", self._grams)):
            names = vectorizer.get_feature_names_out().tolist()
            (folder / f"{name}.json").write_text(json.dumps(names), "utf-8")
            np.save(folder / f"{name}_idf.npy", vectorizer.idf_)
        for name, matrix in (("rows", self._rows), ("columns", self._columns)):
            for part in ("data", "indices", "indptr"):
                np.save(folder / f"{name}_{part}.npy", getattr(matrix, part))

    @classmethod
    def load(cls, folder: Path, index: WordIndex | None) -> TfidfSimilarity:
        """What :meth:`save` wrote; the matrices stay on disk and are read where they are needed."""

        def vectorizer(name: str, **more: object) -> TfidfVectorizer:
            vocabulary = json.loads((folder / f"{name}.json").read_text("utf-8"))
            made = TfidfVectorizer(sublinear_tf=True, dtype=np.float32, vocabulary=vocabulary, **more)
            made.idf_ = np.load(folder / f"{name}_idf.npy")
            return made

        def matrix(name: str, shape: tuple[int, int]) -> sparse.csr_matrix:
            parts = [np.load(folder / f"{name}_{part}.npy", mmap_mode="r") for part in ("data", "indices", "indptr")]
            return sparse.csr_matrix(tuple(parts), shape=shape)

        words = vectorizer("words", token_pattern=r"(?u)\w+", ngram_range=(1, 2))
        grams = vectorizer("grams", analyzer="char_wb", ngram_range=(3, 4))
        items = len(np.load(folder / "rows_indptr.npy", mmap_mode="r")) - 1
        features = len(words.idf_) + len(grams.idf_)
        return cls(words, grams, matrix("rows", (items, features)), matrix("columns", (features, items)), index)

    def _search(self, text: str, least: float) -> tuple[Ints, Floats]:
        row = sparse.csr_matrix(self._query(text) @ self._columns)
        # Of a million items a third share some n-gram with a text: what is not near is left out before anything else.
        keep = np.flatnonzero(row.data >= least)
        codes, scores = row.indices[keep].astype(np.int64), row.data[keep].astype(np.float64)
        order = np.argsort(codes)
        return codes[order], np.minimum(scores[order], 1.0)


def _vectors(words: TfidfVectorizer, grams: TfidfVectorizer, texts: Sequence[str]) -> sparse.csr_matrix:
    return _joined(words.transform(texts), grams.transform(texts))


def _joined(words: sparse.csr_matrix, grams: sparse.csr_matrix) -> sparse.csr_matrix:
    joined = normalize(sparse.hstack([words * WORD_SHARE**0.5, grams * (1 - WORD_SHARE) ** 0.5], format="csr"))
    joined.sort_indices()
    return joined
