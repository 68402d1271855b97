"""The loop's ``Catalogue``: real items for specs, at one decision time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from rolegen_errors import InputError
from rolegen_graphs.words import Article, Candidate, ItemSpec, Observation

from ..evidence.log import ITEM_COLUMNS, require_columns
from ..evidence.market import Market
from ..settings import Settings
from ..text_encoders import text_encoder
from .choice import Aisles, Choice
from .opening import Progress, open_similarity, silent
from .similarity import Similarity, clean
from .stock import Mask, Stock


class TextCatalogue:
    """Finds items by title, filtered by stock, category and price; the same way at every size.

    Args:
        items: the catalogue: item, title, category, price, and where known ``available`` and ``first_seen``.
        market: sales up to a time: for stock and for popularity.
        similarity: what compares texts with the titles; None fits TF-IDF on them.
        stock_days: an item counts as out of stock when nobody bought it for so long; None = stock is not inferred.
        threshold: the least cosine similarity at which a text match counts; None = that of ``similarity``.
        available: a rule of the shop's own, asked last, for the item about to be chosen.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        market: Market,
        *,
        similarity: Similarity | None = None,
        stock_days: float | None = None,
        threshold: float | None = None,
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
        self._market, self._rule = market, available
        self._stock, self._aisles = Stock(rows, market, stock_days), Aisles(market)
        self._similarity = similarity or open_similarity(market)
        self._threshold = self._similarity.threshold if threshold is None else threshold

    def available(self, item: str, at: datetime) -> bool:
        """Whether the item can be bought at ``at``, as far as is known before it."""
        code = self._market.code.get(item)
        if code is None or not self.in_stock(at)[code]:
            return False
        return self._rule is None or self._rule(item, at)

    def look_up(self, items: Sequence[str], at: datetime) -> Mapping[str, Article]:
        """By id, what of ``items`` is available at ``at``."""
        codes = {item: self._market.code[item] for item in items if self.available(item, at)}
        return {item: self._article(item, code) for item, code in codes.items()}

    def _article(self, item: str, code: int) -> Article:
        price = float(self._market.price[code])
        return Article(
            item=item,
            title=self._market.titles[code],
            category=self._market.category[code],
            price=price if math.isfinite(price) else None,
        )

    def in_stock(self, at: datetime) -> Mask:
        """On sale, seen before ``at`` and, with ``stock_days``, sold within so many days before it; shape (items,)."""
        return self._stock.at(at).in_stock

    def choice(self, at: datetime) -> Choice:
        """What may be chosen at ``at``, before the shop's own rule."""
        return Choice(self._aisles, self._stock.at(at), self._similarity, self._threshold)

    def ground(self, specs: Sequence[tuple[int, int, ItemSpec]], seen: Observation) -> tuple[Candidate, ...]:
        """One candidate for each (path number, step, spec), in order; no item is given twice.

        Accepted: every wish is met. Mapped: the price band, or band and category, had to be dropped. Rejected: no
        text comes near enough, or nothing that does is available. Ties go to the item sold more of late.
        """
        if not specs:
            return ()
        at = seen.trajectory.at
        choice = self.choice(at)
        self._similarity.prepare([clean(spec.text) for _, _, spec in specs if spec.text.strip()])
        taken: set[int] = set()
        return tuple(self._candidate(number, step, spec, choice, taken, at) for number, step, spec in specs)

    def _candidate(
        self, path: int, step: int, spec: ItemSpec, choice: Choice, taken: set[int], at: datetime
    ) -> Candidate:
        for relaxed in choice.steps(spec):
            for code, score in choice.ranked(spec, relaxed):
                item = self._market.items[code]
                if code in taken or (self._rule is not None and not self._rule(item, at)):
                    continue
                taken.add(code)
                reason = choice.difference(spec, code)
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
        reason = choice.rejection(spec, taken)
        return Candidate(path=path, step=step, role=spec.role, spec=spec, fate="rejected", reason=reason)


def open_catalogue(
    items: pl.DataFrame,
    market: Market,
    settings: Settings,
    *,
    store: Path | None = None,
    progress: Progress = silent,
) -> TextCatalogue:
    """A catalogue as the project's ``[grounding]`` has it.

    Args:
        store: folder in which what was built over these titles is kept, see :func:`~.opening.open_similarity`.

    Raises:
        ProjectError: there is no such encoder.
        MissingExtraError: the catalogue is large and the extra ``index`` is not installed.
    """
    chosen = settings.grounding
    similarity = open_similarity(
        market,
        encoder=text_encoder(chosen.encoder, settings.llm),
        index_above=chosen.index_above,
        store=store,
        progress=progress,
    )
    return TextCatalogue(
        items, market, similarity=similarity, stock_days=settings.data.stock_days, threshold=chosen.threshold
    )
