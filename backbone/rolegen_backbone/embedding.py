"""Item embeddings: what an item says (text, category, price) and what people did with it, mixed by maturity.

A cold item has only its text; a mature one is best described by the baskets it was in. The gate between both is
``n / (n + MATURITY)`` with n the baskets that held the item, so a new item moves smoothly from one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from .events import Baskets, Floats

MATURITY: Final = 20.0
"""baskets at which text and behaviour weigh the same"""
LARGEST_BASKET: Final = 200
"""baskets of more distinct items are a wholesaler's whole shop and say nothing about which items belong together"""


def text_embedding(titles: Sequence[str], *, width: int, seed: int) -> Floats:
    """TF-IDF over words and character n-grams, reduced by truncated SVD (latent semantic analysis).

    Returns:
        (I, width) unit rows, float32; zero rows for items without text.
    """
    if not any(character.isalnum() or character == "_" for title in titles for character in title):
        return np.zeros((len(titles), width), np.float32)
    words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(titles)
    grams = TfidfVectorizer(
        sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4), max_features=20_000
    ).fit_transform(titles)
    return _reduce(sparse.hstack([words, 0.5 * grams]).tocsr(), width=width, seed=seed)


def behaviour_embedding(baskets: Baskets, items: int, *, width: int, seed: int) -> tuple[Floats, Floats]:
    """Positive pointwise mutual information of sharing a basket, reduced by truncated SVD.

    After Levy and Goldberg (2014), "Neural word embedding as implicit matrix factorization".

    Returns:
        (I, width) unit rows and (I,) the number of baskets that held each item.
    """
    count = np.diff(baskets.start)
    small = np.repeat(count <= LARGEST_BASKET, count)
    basket = np.repeat(np.arange(len(baskets)), count)
    held = sparse.csr_matrix(
        (np.ones(int(small.sum()), np.float32), (basket[small], baskets.item[small])), shape=(len(baskets), items)
    )
    seen = np.bincount(baskets.item, minlength=items).astype(np.float32)
    together = (held.T @ held).tocoo()
    off = together.row != together.col
    row, column, both = together.row[off], together.col[off], together.data[off]
    total = max(float(both.sum()), 1.0)
    margin = np.bincount(row, weights=both, minlength=items)
    pmi = np.log(np.maximum(both, 1e-9) * total / (margin[row] * margin[column]))
    positive = pmi > 0
    matrix = sparse.csr_matrix(
        (pmi[positive].astype(np.float32), (row[positive], column[positive])), shape=(items, items)
    )
    return _reduce(matrix, width=width, seed=seed), seen


def item_embedding(
    titles: Sequence[str],
    categories: Sequence[str | None],
    price: Floats,
    baskets: Baskets,
    *,
    width: int = 64,
    seed: int = 0,
) -> Floats:
    """The mixed embedding that semantic ids are made from: (I, 2 * width + 1), float32.

    The first ``width`` columns are text (category words included), the next are behaviour, the last is the
    standardised log price. Blocks are scaled by the square root of their gate, so that squared distances mix linearly.
    """
    texts = [f"{title} {category or ''}" for title, category in zip(titles, categories, strict=True)]
    text = text_embedding(texts, width=width, seed=seed)
    behaviour, seen = behaviour_embedding(baskets, len(texts), width=width, seed=seed)
    mature = (seen / (seen + MATURITY))[:, None]
    level = np.log(np.where(np.isfinite(price) & (price > 0), price, np.nan))
    level = (
        np.nan_to_num((level - np.nanmean(level)) / (np.nanstd(level) + 1e-6))
        if np.isfinite(level).any()
        else np.zeros(len(texts))
    )
    blocks = [np.sqrt(1 - 0.5 * mature) * text, np.sqrt(mature) * behaviour, 0.15 * level[:, None]]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def text_categories(items: pl.DataFrame, *, leaves: int = 60, seed: int = 0) -> pl.Series:
    """A category for every item: the catalogue's own, or a cluster of titles named by its three most telling words.

    Roles such as *bridge* and *complement* speak of categories; a log without any would have none of them.

    Args:
        items: frame with ``title`` and ``category`` (nullable).

    Returns:
        Series ``category`` without nulls. Items without category and title fall into ``uncategorised``.
    """
    given = items["category"]
    open_rows = np.flatnonzero(
        given.is_null().to_numpy() & (items["title"].fill_null("").str.strip_chars() != "").to_numpy()
    )
    category = given.fill_null("uncategorised").to_list()
    if len(open_rows):
        titles = [str(items["title"][int(row)]) for row in open_rows]
        leaves = max(1, min(leaves, len(set(titles)) // 4))
        vector = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b[^\W\d_]{3,}\b", stop_words="english")
        try:
            words = vector.fit_transform(titles)
        except ValueError:  # sklearn's "empty vocabulary": titles of digits and signs only
            return pl.Series("category", category)
        label = KMeans(leaves, n_init=2, random_state=seed).fit_predict(_reduce(words, width=48, seed=seed))
        names = vector.get_feature_names_out()
        for leaf in range(leaves):
            members = np.flatnonzero(label == leaf)
            if not len(members):
                continue
            weight = np.asarray(words[members].mean(axis=0)).ravel()
            name = " ".join(names[k] for k in np.argsort(-weight, kind="stable")[:3] if weight[k] > 0) or "other"
            for row in open_rows[members]:
                category[int(row)] = name
    return pl.Series("category", category)


def _reduce(matrix: sparse.csr_matrix, *, width: int, seed: int) -> Floats:
    """Truncated SVD to ``width`` columns of unit rows; narrower matrices are padded with zeros."""
    rank = min(width, min(matrix.shape) - 1)
    if rank < 1:
        return np.zeros((matrix.shape[0], width), np.float32)
    # Its explained variance, which nothing here reads, is 0 / 0 where all rows are equal.
    with np.errstate(invalid="ignore"):
        reduced = normalize(TruncatedSVD(rank, random_state=seed).fit_transform(matrix))
    return np.pad(reduced, ((0, 0), (0, width - rank))).astype(np.float32)
