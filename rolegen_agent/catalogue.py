"""Grounding: from an item spec to a real item that can be bought at the decision time, or to a reason why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from rolegen_errors import InputError
from rolegen_graphs.words import Candidate, ItemSpec, Observation

from .evidence.log import ITEM_COLUMNS, require_columns
from .evidence.market import Market, microseconds

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
MAX_TEXT = 300
"""characters of a title or a spec's text that are indexed: a longer text has no more to say about one item"""
WORD_SHARE = 0.6
"""weight of whole words against character n-grams, which forgive spelling and inflection"""


class TextCatalogue:
    """TF-IDF over titles (words and character n-grams), searched exactly, filtered by stock, category and price.

    Args:
        items: the catalogue: item, title, category, price, and where known ``available`` and ``first_seen``.
        market: sales up to a time: for stock and for popularity.
        stock_days: an item counts as out of stock when nobody bought it for so long; None = stock is not inferred.
        threshold: the least cosine similarity at which a text match counts.
        available: a rule of the shop's own, asked last, for the item about to be chosen.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        market: Market,
        *,
        stock_days: float | None = None,
        threshold: float = 0.25,
        available: Callable[[str, datetime], bool] | None = None,
    ) -> None:
        require_columns(items, ITEM_COLUMNS, "items")
        rows = items.sort("item")
        if rows["item"].to_list() != market.items:
            raise InputError(
                "the catalogue and the market know different items", fix="build both from the same items frame"
            )
        if rows.is_empty():
            raise InputError("the catalogue is empty", fix="ingest a log or a catalogue that has items")
        self._market, self._stock_days, self._threshold, self._rule = market, stock_days, threshold, available
        self._on_sale: Mask = (
            rows["available"].fill_null(True).to_numpy() if "available" in rows.columns else np.ones(rows.height, bool)
        )
        never = np.iinfo(np.int64).max
        self._first_seen: Ints = (
            rows["first_seen"].cast(pl.Datetime("us", "UTC")).to_physical().fill_null(never).to_numpy()
            if "first_seen" in rows.columns
            else np.full(rows.height, never)
        )
        self._category_code = {name: code for code, name in enumerate(market.categories)}
        self._words = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\w+", ngram_range=(1, 2), dtype=np.float32)
        self._chars = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 4), dtype=np.float32)
        texts = [_clean(title) for title in market.titles]
        # A catalogue whose titles hold no word at all still needs a vocabulary to be searched by.
        blank = not any(any(c.isalnum() for c in text) for text in texts)
        self._words.fit(market.items if blank else texts)
        self._chars.fit(market.items if blank else texts)
        self._index = sparse.csr_matrix(self._vectors(texts).T)
        # Decisions ask for the same titles over and over.
        self._similar = lru_cache(maxsize=4096)(self._search_text)

    def available(self, item: str, at: datetime) -> bool:
        """Whether the item can be bought at ``at``, as far as is known before it."""
        code = self._market.code.get(item)
        if code is None or not self.in_stock(at)[code]:
            return False
        return self._rule is None or self._rule(item, at)

    def in_stock(self, at: datetime) -> Mask:
        """On sale, seen before ``at`` and, with ``stock_days``, sold within so many days before it; shape (items,)."""
        idle = self._market.as_of(at).idle_days
        seen = np.isfinite(idle) | (self._first_seen < microseconds(at))
        mask: Mask = self._on_sale & seen
        return mask if self._stock_days is None else mask & (idle <= self._stock_days)

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        """One candidate for each (path number, step, spec), in order; no item is given twice.

        Accepted: every wish is met. Mapped: the price band, or band and category, had to be dropped. Rejected: no
        text comes near enough, or nothing that does is available. Ties go to the item sold more of late.
        """
        if not specs:
            return ()
        at = seen.trajectory.at
        search = _Search(
            self._market, self.in_stock(at), self._market.as_of(at).recent, self._category_code, self._threshold
        )
        similar = [self._similar(_clean(spec.text)) for _, _, spec in specs]
        taken: set[int] = set()
        return tuple(
            self._candidate(number, step, spec, similar[row], search, taken, at)
            for row, (number, step, spec) in enumerate(specs)
        )

    def _candidate(
        self,
        path: int,
        step: int,
        spec: ItemSpec,
        similar: tuple[Ints, npt.NDArray[np.float64]],
        search: _Search,
        taken: set[int],
        at: datetime,
    ) -> Candidate:
        if spec.text.strip():
            codes, scores = similar
        else:
            codes, scores = np.arange(len(self._market.items)), np.ones(len(self._market.items))
        for relaxed in ((), ("price",), ("price", "category")):
            for code, score in search.ranked(spec, codes, scores, relaxed):
                item = self._market.items[code]
                if code in taken or (self._rule is not None and not self._rule(item, at)):
                    continue
                taken.add(code)
                reason = search.difference(spec, code)
                return Candidate(
                    path=path,
                    step=step,
                    role=spec.role,
                    spec=spec,
                    fate="mapped" if reason else "accepted",
                    reason=reason or "matches text, category and price",
                    item=item,
                    title=self._market.titles[code],
                    score=round(score, 6),
                )
        reason = search.rejection(spec, codes, scores, taken)
        return Candidate(path=path, step=step, role=spec.role, spec=spec, fate="rejected", reason=reason)

    def _search_text(self, text: str) -> tuple[Ints, npt.NDArray[np.float64]]:
        """Codes and cosine similarities of all items that share anything with ``text``."""
        row = sparse.csr_matrix(self._vectors([text]) @ self._index)
        return row.indices.astype(np.int64), np.minimum(row.data.astype(np.float64), 1)

    def _vectors(self, texts: list[str]) -> sparse.csr_matrix:
        words, chars = self._words.transform(texts), self._chars.transform(texts)
        return normalize(sparse.hstack([words * WORD_SHARE**0.5, chars * (1 - WORD_SHARE) ** 0.5], format="csr"))


@dataclass(frozen=True)
class _Search:
    """What may be chosen at one decision time."""

    market: Market
    in_stock: Mask
    popularity: npt.NDArray[np.float64]
    category_code: dict[str, int]
    threshold: float

    def ranked(
        self, spec: ItemSpec, codes: Ints, scores: npt.NDArray[np.float64], relaxed: tuple[str, ...]
    ) -> list[tuple[int, float]]:
        """Items that meet the spec but for what is ``relaxed``: falling score, then sales, then item id."""
        keep = self.in_stock[codes] & (scores >= self.threshold)
        if "category" not in relaxed and spec.category is not None:
            keep &= self.market.category_code[codes] == self.category_code.get(spec.category, -1)
        if "price" not in relaxed:
            keep &= self.within(spec, self.market.price[codes])
        codes, scores = codes[keep], scores[keep]
        order = np.lexsort((codes, -self.popularity[codes], -np.round(scores, 6)))
        return list(zip(codes[order].tolist(), scores[order].tolist(), strict=True))

    def within(self, spec: ItemSpec, price: npt.NDArray[np.float64]) -> Mask:
        """Prices inside the band, ends included up to a rounding error; an unknown price fits only an open band."""
        keep = np.ones(len(price), dtype=np.bool_)
        if spec.price_low is not None:
            keep &= price >= spec.price_low - 0.005
        if spec.price_high is not None:
            keep &= price <= spec.price_high + 0.005
        return keep

    def difference(self, spec: ItemSpec, code: int) -> str:
        """In what the chosen item is not as wished; empty when it is."""
        parts = []
        category = self.market.category[code]
        if spec.category is not None and category != spec.category:
            known = "" if spec.category in self.category_code else ", which does not exist"
            parts.append(f"category {category} instead of {spec.category}{known}")
        price = self.market.price[code]
        if not self.within(spec, np.array([price]))[0]:
            parts.append("price unknown" if np.isnan(price) else f"price {price:.2f} outside the band")
        return "; ".join(parts)

    def rejection(self, spec: ItemSpec, codes: Ints, scores: npt.NDArray[np.float64], taken: set[int]) -> str:
        near = codes[scores >= self.threshold]
        if not len(near):
            return f"no title comes near the text {spec.text[:80]!r}"
        in_stock = near[self.in_stock[near]]
        if not len(in_stock):
            return f"nothing available: {len(near)} titles match, none can be bought at that time"
        if all(code in taken for code in in_stock.tolist()):
            return "every matching item already serves another spec of this decision"
        return "the shop's own rule allows none of the matching items"


def _clean(text: str) -> str:
    return text[:MAX_TEXT].lower()
