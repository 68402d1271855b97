"""Item embeddings: what an item says (text, category, price) and what people did with it, mixed by maturity.

A cold item has only its text; a mature one is best described by the baskets it was in. The gate between both is
``n / (n + MATURITY)`` with n the baskets that held the item, so a new item moves smoothly from one to the other.

:class:`ItemEncoder` is fitted once and kept with the model: items that appear later are embedded by the same map.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file
from scipy import sparse
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import TfidfVectorizer

from rolegen_errors import ProjectError

from .events import Baskets, Floats, Ints
from .text_encoder import TextEncoder, TextMap, fit_text, principal, text_map, unit_rows

MATURITY: Final = 20.0
"""baskets at which text and behaviour weigh the same"""
LARGEST_BASKET: Final = 200
"""baskets of more distinct items are a wholesaler's whole shop and say nothing about which items belong together"""
PRICE: Final = 0.15
"""weight of one standard deviation of the log price, against unit rows of text and behaviour"""


@dataclass(frozen=True)
class ItemEncoder:
    """The fitted map from catalogue rows (``title, category, price``) to the embedding that semantic ids are made from.

    An embedding is (I, 2 * width + 1), float32: ``width`` columns of text (category words included), as many of
    behaviour, and the standardised log price. Blocks are scaled by the square root of their gate, so that squared
    distances mix linearly.
    """

    text: TextMap
    width: int
    price: tuple[float, float]
    """mean and standard deviation of the log price"""

    @classmethod
    def fit(
        cls, items: pl.DataFrame, *, encoder: TextEncoder | None = None, width: int = 64, seed: int = 0
    ) -> ItemEncoder:
        """Learn the map from a catalogue; ``encoder`` takes the place of TF-IDF."""
        level = _log_price(items)
        known = level[np.isfinite(level)]
        price = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
        return cls(fit_text(encoder, _texts(items), width=width, seed=seed), width, price)

    def encode(self, items: pl.DataFrame, behaviour: Floats | None = None, seen: Floats | None = None) -> Floats:
        """Embed catalogue rows.

        Args:
            behaviour: (I, width) unit rows; without them all items are new.
            seen: (I,) baskets that held each item.
        """
        if behaviour is None or seen is None:
            behaviour, seen = np.zeros((len(items), self.width), np.float32), np.zeros(len(items), np.float32)
        mature = (seen / (seen + MATURITY))[:, None]
        mean, deviation = self.price
        level = np.nan_to_num((_log_price(items) - mean) / (deviation + 1e-6))
        text = self.text.encode(_texts(items))
        blocks = [np.sqrt(1 - 0.5 * mature) * text, np.sqrt(mature) * behaviour, PRICE * level[:, None]]
        return np.concatenate(blocks, axis=1).astype(np.float32)

    def behaviour_of(self, embedding: Floats) -> Floats:
        """(I, width) the gated behaviour block of an embedding."""
        return embedding[:, self.width : 2 * self.width]

    def nearest_categories(self, new: pl.DataFrame, known: pl.Series, embedding: Floats) -> pl.Series:
        """For each new row without a category that of the known item with the most similar text; null if none is.

        Args:
            known: (I,) categories of the known items; ``embedding`` is theirs.
        """
        category = new["category"].to_list()
        missing = [row for row, name in enumerate(category) if name is None]
        if missing:
            there = unit_rows(embedding[:, : self.width])
            for row, vector in zip(missing, self.text.encode(_texts(new[missing])), strict=True):
                similar = there @ vector
                best = int(similar.argmax())
                category[row] = known[best] if similar[best] > 0 else None
        return pl.Series("category", category, dtype=pl.String)

    def save(self, folder: Path) -> None:
        """Write ``item_encoder.json`` and ``item_encoder.safetensors``."""
        facts = {"width": self.width, "price": self.price, "text": self.text.facts()}
        save_file({k: np.ascontiguousarray(v) for k, v in self.text.arrays().items()}, folder / f"{_FILE}.safetensors")
        (folder / f"{_FILE}.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: Path, encoder: TextEncoder | None = None) -> ItemEncoder:
        """Read what :meth:`save` wrote; ``encoder`` as in :func:`rolegen_backbone.text_encoder.text_map`.

        Raises:
            ProjectError: the files are missing, or ``encoder`` is not the one that was fitted with.
        """
        path = folder / f"{_FILE}.json"
        if not path.exists():
            raise ProjectError("there is no item encoder", where=str(path), fix="run `rolegen train`")
        facts = json.loads(path.read_text())
        mean, deviation = facts["price"]
        text = text_map(facts["text"], load_file(path.with_suffix(".safetensors")), encoder)
        return cls(text, facts["width"], (mean, deviation))


def behaviour_embedding(baskets: Baskets, items: int, *, width: int, seed: int) -> tuple[Floats, Floats]:
    """Positive pointwise mutual information of sharing a basket, reduced by truncated SVD.

    After Levy and Goldberg (2014), "Neural word embedding as implicit matrix factorization".

    Returns:
        (I, width) unit rows and (I,) the number of baskets that held each item.
    """
    matrix, seen = _mutual_information(baskets, items)
    return _reduce(matrix, width=width, seed=seed), seen


def fold_in(baskets: Baskets, behaviour: Floats, known: Ints, new: Ints, *, before_day: int) -> tuple[Floats, Floats]:
    """Behaviour of new items from the known items that they shared baskets with.

    Args:
        baskets: over the items of ``known`` and ``new`` together.
        behaviour: (len(known), width) what was learnt of the known ones, gated, so that a mature neighbour counts more.
        before_day: only baskets of earlier days count.

    Returns:
        (len(new), width) unit rows, zero where nothing was shared, and (len(new),) baskets of each.
    """
    matrix, seen = _mutual_information(baskets, len(known) + len(new), before_day=before_day)
    return unit_rows(matrix[new][:, known] @ behaviour), seen[new]


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


def _mutual_information(
    baskets: Baskets, items: int, *, before_day: int | None = None
) -> tuple[sparse.csr_matrix, Floats]:
    """(I, I) positive pointwise mutual information, and (I,) baskets of each item."""
    count = np.diff(baskets.start)
    early = np.ones(len(baskets), bool) if before_day is None else baskets.day < before_day
    small = np.repeat((count <= LARGEST_BASKET) & early, count)
    basket = np.repeat(np.arange(len(baskets)), count)
    held = sparse.csr_matrix(
        (np.ones(int(small.sum()), np.float32), (basket[small], baskets.item[small])), shape=(len(baskets), items)
    )
    seen = np.bincount(baskets.item[np.repeat(early, count)], minlength=items).astype(np.float32)
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
    return matrix, seen


def _texts(items: pl.DataFrame) -> list[str]:
    titles, categories = items["title"].fill_null(""), items["category"].cast(pl.String).fill_null("")
    return [f"{title} {category}" for title, category in zip(titles, categories, strict=True)]


def _log_price(items: pl.DataFrame) -> Floats:
    """(I,) NaN where unknown."""
    price = items["price"].cast(pl.Float32).fill_null(float("nan")).to_numpy()
    return np.log(np.where(np.isfinite(price) & (price > 0), price, np.nan))


def _reduce(matrix: sparse.csr_matrix, *, width: int, seed: int) -> Floats:
    """(I, width) unit rows along the leading singular directions."""
    return unit_rows(matrix @ principal(matrix, width=width, seed=seed).T)


_FILE: Final = "item_encoder"
