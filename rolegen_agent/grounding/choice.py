"""Which item a spec gets: filters by stock, category and price, the order of what is left, and the reasons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from rolegen_graphs.words import ItemSpec

from ..evidence.market import Market
from .similarity import Floats, Ints, Similarity, clean
from .stock import Mask, Shelf

Wish = Literal["price", "category"]
Relaxed = tuple[Wish, ...]
CENT = 0.005
"""prices this far outside a band still lie in it: they were rounded somewhere"""


class Aisles:
    """Items by category, which do not change from one decision to the next."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.code = {name: code for code, name in enumerate(market.categories)}
        self._order: Ints = np.argsort(market.category_code, kind="stable")
        self._start = np.searchsorted(market.category_code[self._order], np.arange(len(market.categories) + 1))

    def members(self, category: int) -> Ints:
        """Codes of a category's items, in order."""
        return self._order[self._start[category] : self._start[category + 1]]


class Choice:
    """What may be chosen at one decision time."""

    def __init__(self, aisles: Aisles, shelf: Shelf, similarity: Similarity, threshold: float) -> None:
        self._aisles, self._market, self._shelf = aisles, aisles.market, shelf
        self._similarity, self._threshold = similarity, threshold

    @staticmethod
    def steps(spec: ItemSpec) -> tuple[Relaxed, ...]:
        """What is given up, step by step, before a spec is rejected: nothing, its price band, its category too."""
        banded = spec.price_low is not None or spec.price_high is not None
        steps: tuple[Relaxed, ...] = ((), ("price",)) if banded else ((),)
        return steps if spec.category is None else (*steps, ("price", "category"))

    def ranked(self, spec: ItemSpec, relaxed: Relaxed) -> Iterator[tuple[int, float]]:
        """(code, cosine) of all items that meet the spec but for what is ``relaxed``: by cosine, then sales, then code.

        With an index, what it did not name comes after what it named; whoever needs no more of them does not pay for it.
        """
        text, asked = clean(spec.text), None if "category" in relaxed else spec.category
        category = None if asked is None else self._aisles.code.get(asked)
        if asked is not None and category is None:
            return
        if not text.strip():
            codes = self._shelf.best_sellers
            if category is not None:
                codes = codes[self._market.category_code[codes] == category]
            if "price" not in relaxed:
                codes = codes[self._within(spec, self._market.price[codes])]
            yield from ((code, 1.0) for code in codes.tolist())
            return
        if not self._similarity.indexed:
            yield from self._near(spec, text, category, relaxed)
            return
        allowed = self._allowed(spec, category, relaxed)
        if len(allowed) <= self._similarity.few:
            yield from self._sorted(allowed, self._similarity.of(text, allowed))
            return
        among = len(self._market.items) if category is None else len(self._aisles.members(category))
        named = self._similarity.nearest(text, allowed, category, among)
        done: set[int] = set()
        if named is not None:
            for code, score in self._sorted(named, self._similarity.of(text, named)):
                done.add(code)
                yield code, score
        yield from (one for one in self._near(spec, text, category, relaxed) if one[0] not in done)

    def difference(self, spec: ItemSpec, code: int) -> str:
        """In what the chosen item is not as wished; empty when it is."""
        parts = []
        category = self._market.category[code]
        if spec.category is not None and category != spec.category:
            known = "" if spec.category in self._aisles.code else ", which does not exist"
            parts.append(f"category {category} instead of {spec.category}{known}")
        price = self._market.price[code]
        if not self._within(spec, np.array([price]))[0]:
            parts.append("price unknown" if np.isnan(price) else f"price {price:.2f} outside the band")
        return "; ".join(parts)

    def rejection(self, spec: ItemSpec, taken: set[int]) -> str:
        """Why no item was left for the spec."""
        text = clean(spec.text)
        near = self._similarity.near(text, self._threshold)[0] if text.strip() else np.arange(len(self._market.items))
        if not len(near):
            return f"no title comes near the text {spec.text[:80]!r}"
        in_stock = near[self._shelf.in_stock[near]]
        if not len(in_stock):
            return f"nothing available: {len(near)} titles match, none can be bought at that time"
        if all(code in taken for code in in_stock.tolist()):
            return "every matching item already serves another spec of this decision"
        return "the shop's own rule allows none of the matching items"

    def _allowed(self, spec: ItemSpec, category: int | None, relaxed: Relaxed) -> Ints:
        """Codes in stock that meet category and price, in order."""
        codes = self._shelf.codes
        if category is not None:
            codes = self._aisles.members(category)
            codes = codes[self._shelf.in_stock[codes]]
        if "price" not in relaxed and (spec.price_low is not None or spec.price_high is not None):
            codes = codes[self._within(spec, self._market.price[codes])]
        return codes

    def _near(self, spec: ItemSpec, text: str, category: int | None, relaxed: Relaxed) -> Iterator[tuple[int, float]]:
        codes, scores = self._similarity.near(text, self._threshold)
        keep = self._shelf.in_stock[codes]
        if category is not None:
            keep &= self._market.category_code[codes] == category
        if "price" not in relaxed:
            keep &= self._within(spec, self._market.price[codes])
        yield from self._sorted(codes[keep], scores[keep])

    def _sorted(self, codes: Ints, scores: Floats) -> Iterator[tuple[int, float]]:
        keep = scores >= self._threshold
        codes, scores = codes[keep], scores[keep]
        order = np.lexsort((codes, -self._shelf.popularity[codes], -np.round(scores, 6)))
        yield from zip(codes[order].tolist(), scores[order].tolist(), strict=True)

    @staticmethod
    def _within(spec: ItemSpec, price: Floats) -> Mask:
        """Prices inside the band, ends included; an unknown price fits only an open band."""
        keep = np.ones(len(price), dtype=np.bool_)
        if spec.price_low is not None:
            keep &= price >= spec.price_low - CENT
        if spec.price_high is not None:
            keep &= price <= spec.price_high + CENT
        return keep
