"""The item table: what the log itself tells about its items, put under the catalogue where there is one.

A title, a category or a price must not reach a decision from its future. Titles and categories are therefore the first
in time, and a price is the median of the item's first 30 days.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from .rows import BEHAVIOURS

PRICE_WINDOW = timedelta(days=30)
_PENDING_ROWS = 1_000_000
_ORDER = BEHAVIOURS.index("order")


class ItemFacts:
    """Collects per item number: first seen, first priced order, first title and first category."""

    def __init__(self) -> None:
        self._titles: list[pl.DataFrame] = []
        self._first: list[pl.DataFrame] = []

    def add(self, kept: pl.DataFrame, items: pl.Series) -> None:
        """Take in a batch of kept rows with their item numbers."""
        frame = kept.select(items.alias("item"), "time", "place", "title", "category", "behaviour", "price")
        self._titles.append(_first_texts(frame.select("item", "title", "category", "time", "place")))
        priced = pl.col("price").is_not_null()
        self._first.append(
            frame.group_by("item").agg(
                pl.col("time").min().alias("first_seen"),
                pl.col("time").filter(priced).min().alias("priced"),
                pl.col("time").filter(priced & (pl.col("behaviour") == "order")).min().alias("sold"),
            )
        )
        if sum(part.height for part in self._titles) > _PENDING_ROWS:
            self._titles = [_first_texts(pl.concat(self._titles))]
            self._first = [self.first()]

    def first(self) -> pl.DataFrame:
        """item (number), first_seen, priced, sold: times of the first event, priced event and priced order."""
        return pl.concat(self._first).group_by("item").agg(pl.col("first_seen", "priced", "sold").min()).sort("item")

    def texts(self) -> pl.DataFrame:
        """item (number), title, category."""
        stripped = pl.col("title", "category").str.strip_chars()
        pairs = pl.concat(self._titles).with_columns(pl.when(stripped != "").then(stripped))
        return pairs.group_by("item").agg(
            *(
                pl.col(name)
                .sort_by("time", "place")
                .filter(pl.col(name).sort_by("time", "place").is_not_null())
                .first()
                for name in ("title", "category")
            )
        )


def early_prices(events: pl.DataFrame, first: pl.DataFrame) -> pl.DataFrame:
    """(item, price, order) of the events in the item's first 30 days of sales, or of being seen if it never sold."""
    bounds = events.select("item", "time", "price", order=pl.col("behaviour") == _ORDER).with_columns(
        since=first["sold"].fill_null(first["priced"]).gather(events["item"]),
        sold=first["sold"].is_not_null().gather(events["item"]),
    )
    early = (pl.col("time") >= pl.col("since")) & (pl.col("time") < pl.col("since") + PRICE_WINDOW)
    counts = pl.col("price").is_not_null() & (pl.col("order") | ~pl.col("sold"))
    return bounds.filter(early & counts).select("item", "price")


def item_table(
    names: pl.Series, facts: ItemFacts, prices: list[pl.DataFrame], catalogue: pl.DataFrame | None
) -> pl.DataFrame:
    """item, title, category, price, available, first_seen (null for an item that only the catalogue knows), by item."""
    median = pl.concat(prices).group_by("item").agg(pl.col("price").median().cast(pl.Float32))
    logged = (
        facts.first()
        .select("item", "first_seen")
        .join(facts.texts(), on="item", how="left")
        .join(median, on="item", how="left")
    )
    logged = logged.with_columns(names.gather(logged["item"]).alias("item"))
    if catalogue is not None:
        logged = catalogue.join(logged, on="item", how="left", suffix="_log").with_columns(
            pl.when(pl.col("title") != "").then("title").otherwise("title_log").alias("title"),
            pl.col("category").fill_null(pl.col("category_log")),
            pl.col("price").fill_null(pl.col("price_log")),
        )
    else:
        logged = logged.with_columns(available=pl.lit(True))
    return logged.select("item", pl.col("title").fill_null(""), "category", "price", "available", "first_seen").sort(
        "item"
    )


def _first_texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Each (item, title, category) once, with the time and place at which it first stood."""
    return frame.group_by("item", "title", "category").agg(pl.col("time", "place").min())
