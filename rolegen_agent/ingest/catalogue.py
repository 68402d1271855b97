"""The optional catalogue: all items of the shop, with title, category, price and availability."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rolegen_errors import InputError

from ..settings import DataSettings
from .layouts import CATALOGUE_COLUMNS
from .rows import as_text, nearest
from .sources import ROW, Source, find_files, open_source

_YES, _NO = ("true", "1", "yes", "y", "t"), ("false", "0", "no", "n", "f")


def read_catalogue(pattern: str, data: DataSettings, root: Path, scratch: Path) -> pl.DataFrame:
    """item, title, category (String), price (Float32), available (Boolean), one row per item.

    Raises ``InputError`` naming file, column and rows for a missing column, an item without id, an item listed twice,
    a price that is no number of at least 0, or an availability that is neither yes nor no.
    """
    files = find_files(root, pattern)
    if len(files) != 1:
        raise InputError("the catalogue must be one file", where=pattern, fix="name one file")
    source = open_source(files[0], root, scratch, data.encoding)
    headings = {name: data.catalogue_columns.get(name, name) for name in CATALOGUE_COLUMNS}
    for name, heading in headings.items():
        if heading not in source.columns and (name == "item" or name in data.catalogue_columns):
            guess = nearest(heading, source.columns) or nearest(name, source.columns)
            raise InputError(
                f"there is no column '{heading}' for {name}" + (f"; did you mean '{guess}'?" if guess else ""),
                where=f"{source.name}, columns present: {', '.join(source.columns[:40])}",
                fix=f"in rolegen.toml under [data] catalogue_columns write {name} = "
                + (f'"{guess}"' if guess else '"the name of that column"'),
            )
    raw = pl.concat(list(source.batches()) or [source.frame.head(0).collect()])
    texts = {
        name: as_text(heading, raw.schema[heading]) if heading in source.columns else pl.lit(None, pl.String)
        for name, heading in headings.items()
    }
    available = texts["available"].str.to_lowercase()
    items = raw.select(
        ROW,
        texts["item"].alias("item"),
        texts["title"].fill_null("").alias("title"),
        texts["category"].alias("category"),
        texts["price"].alias("price_text"),
        texts["price"].cast(pl.Float32, strict=False).alias("price"),
        available.alias("available_text"),
        available.replace_strict(
            dict.fromkeys(_YES, True) | dict.fromkeys(_NO, False), default=None, return_dtype=pl.Boolean
        ).alias("available"),
    )
    price, written = pl.col("price"), pl.col("price_text").is_not_null()
    bad_price = written & ~((price >= 0) & price.is_finite()).fill_null(False)
    bad_available = pl.col("available_text").is_not_null() & pl.col("available").is_null()
    _refuse(items, pl.col("item").is_null(), "an item has no id", source, headings["item"], "item")
    _refuse(items, pl.col("item").is_duplicated(), "an item is listed more than once", source, headings["item"], "item")
    _refuse(items, bad_price, "a price is not a number of at least 0", source, headings["price"], "price_text")
    _refuse(items, bad_available, "neither yes nor no", source, headings["available"], "available_text")
    if items.is_empty():
        raise InputError("the catalogue has no item", where=source.name, fix="check the export that wrote it")
    return items.select("item", "title", "category", "price", pl.col("available").fill_null(True))


def _refuse(items: pl.DataFrame, bad: pl.Expr, what: str, source: Source, heading: str, shown: str) -> None:
    rows = items.filter(bad).select(ROW, shown)
    if rows.height:
        first = ", ".join(f"{row} ({value!r:.80})" for row, value in rows.head(5).iter_rows())
        raise InputError(
            f"{what} ({rows.height} rows)",
            where=f"{source.name}, column {heading}, rows {first}",
            fix="correct the catalogue; its rows are never put into quarantine",
        )
