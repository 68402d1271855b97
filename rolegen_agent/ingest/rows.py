"""From source rows to canonical rows: every row ends as kept, as skipped under a reason, or as bad under a reason."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import polars as pl

from rolegen_errors import InputError

from ..settings import EventColumn
from . import times
from .layouts import EVENT_COLUMNS, Layout
from .sources import ROW, Source

BEHAVIOURS = ("expose", "view", "cart", "order", "refund")
BEHAVIOUR = pl.Enum(BEHAVIOURS)
_IDS: tuple[EventColumn, ...] = ("user", "item", "session")
_TEXTS: tuple[EventColumn, ...] = ("user", "item", "behaviour", "session", "title", "category")
LONGEST_ID = 1000
"""bytes of a user, item or session id: they are keys, of which databases take no longer ones"""
_NUMBERS: tuple[EventColumn, ...] = ("quantity", "price", "propensity")


@dataclass(frozen=True)
class Reason:
    """Why a row is not kept. ``column`` is canonical; a bad row is an error or goes to quarantine."""

    text: str
    bad: bool = True
    column: EventColumn | None = None
    fix: str = ""


DUPLICATE = "duplicate event"


class RowReader:
    """Reads the batches of one source by one layout.

    Raises ``InputError`` when a column that is needed is missing, with the columns present and the nearest name.
    """

    def __init__(self, source: Source, layout: Layout, catalogue: pl.Series | None) -> None:
        self._source, self._layout, self.catalogue = source, layout, catalogue
        self._headings = _headings(source, layout)
        self._checks = _checks(layout, catalogue)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """``reasons[code - 1]`` tells what a row's code means; code 0 is a row that is kept."""
        return tuple(reason for reason, _ in self._checks)

    @property
    def bad_codes(self) -> list[int]:
        """Codes of rows that are an error, or go to quarantine."""
        return [code for code, reason in enumerate(self.reasons, 1) if reason.bad]

    def heading(self, column: EventColumn) -> str:
        """The source columns behind a canonical one, as the user knows them."""
        return ", ".join(self._headings.get(column, (column,)))

    def read(self, raw: pl.DataFrame) -> pl.DataFrame:
        """Canonical rows of a batch, in order, each with its ``code``: row (Int64), user, item, time, behaviour (Enum),
        quantity, price, propensity (Float32), session, title, category, code (UInt8)."""
        layout = self._layout
        for heading, dtype in raw.schema.items():
            if (dtype.is_nested() or dtype == pl.Binary) and any(heading in used for used in self._headings.values()):
                where = f"{self._source.name}, column {heading}"
                raise InputError(f"a column of type {dtype} cannot be read", where=where, fix="write plain values")
        moment, trouble = times.read_times(raw[self._headings["time"][0]], layout.time_formats, layout.timezone)
        names = [name for name in raw.columns if name != ROW]
        frame = raw.select(
            pl.col(ROW).alias("row"),
            moment.alias("time"),
            trouble.alias("time_trouble"),
            *(self._text(raw, name).alias(name) for name in _TEXTS),
            *(self._number(name).alias(name) for name in _NUMBERS),
            *(self._written(raw, name).alias(f"{name}_written") for name in _NUMBERS),
            pl.all_horizontal(pl.col(name).is_null() for name in names).alias("blank"),
        )
        for name, expression in layout.derive.items():
            frame = frame.with_columns(expression.alias(name))
        mapping = {name: name for name in BEHAVIOURS} | dict(layout.behaviours)
        frame = frame.with_columns(
            pl.col("behaviour").replace_strict(mapping, default="?", return_dtype=pl.String).alias("meaning")
        )
        if layout.negative_refunds:
            refund = pl.col("meaning") == "refund"
            size = pl.when(refund).then(pl.col("quantity").abs()).otherwise("quantity")
            frame = frame.with_columns(size.alias("quantity"))
        return frame.with_columns(self._code().alias("code")).select(
            "row",
            "user",
            "item",
            "time",
            pl.when(pl.col("code") == 0).then("meaning").cast(BEHAVIOUR).alias("behaviour"),
            pl.when("quantity_written").then("quantity").otherwise(1.0).cast(pl.Float32).alias("quantity"),
            pl.col("price").cast(pl.Float32),
            "session",
            pl.col("propensity").cast(pl.Float32),
            "title",
            "category",
            "code",
        )

    def _code(self) -> pl.Expr:
        """The number of the first reason that holds, from 1."""
        chain: pl.Expr = pl.lit(0, pl.UInt8)
        for number in range(len(self._checks), 0, -1):
            test = self._checks[number - 1][1].fill_null(False)
            chain = pl.when(test).then(pl.lit(number, pl.UInt8)).otherwise(chain)
        return chain

    def _text(self, raw: pl.DataFrame, name: EventColumn) -> pl.Expr:
        """A canonical column as stripped text, empty as null; null throughout when the source lacks it. Titles and
        categories stay as they are: they are stripped once per item, in the item table."""
        headings = self._headings.get(name, ())
        if name in ("title", "category") and len(headings) == 1 and raw.schema[headings[0]] == pl.String:
            return pl.col(headings[0])
        parts = [as_text(heading, raw.schema[heading]) for heading in headings]
        if len(parts) < 2:
            return parts[0] if parts else pl.lit(None, pl.String)
        joined = pl.concat_str(parts, separator=" ", ignore_nulls=True)
        return pl.when(joined != "").then(joined)

    def _number(self, name: EventColumn) -> pl.Expr:
        heading = self._headings.get(name)
        return pl.col(heading[0]).cast(pl.Float64, strict=False) if heading else pl.lit(None, pl.Float64)

    def _written(self, raw: pl.DataFrame, name: EventColumn) -> pl.Expr:
        """Whether there is anything to be read as a number."""
        heading = self._headings.get(name)
        if not heading:
            return pl.lit(False)
        column = pl.col(heading[0])
        return (
            column.str.strip_chars().fill_null("") != ""
            if raw.schema[heading[0]] == pl.String
            else column.is_not_null()
        )


def _checks(layout: Layout, catalogue: pl.Series | None) -> list[tuple[Reason, pl.Expr]]:
    """All reasons against a row with their tests, the first that holds counts."""
    known = ", ".join(dict.fromkeys([*layout.behaviours, *BEHAVIOURS]))
    mapping = f"map the value in [data] behaviours (known: {known})"
    meaning, trouble = pl.col("meaning"), pl.col("time_trouble")
    quantity, price, propensity = pl.col("quantity"), pl.col("price"), pl.col("propensity")
    outside = pl.lit(False) if catalogue is None else ~pl.col("item").is_in(catalogue.implode())
    return [
        (Reason("blank row", bad=False), pl.col("blank")),
        *((Reason(text, bad=False), test) for text, test in layout.skip),
        (Reason("left out by [data] behaviours", bad=False), meaning == "drop"),
        (Reason("user is missing", column="user"), pl.col("user").is_null()),
        (Reason("item is missing", column="item"), pl.col("item").is_null()),
        *(
            (
                Reason(f"{name} is longer than {LONGEST_ID} bytes", column=name, fix="check which column holds the id"),
                pl.col(name).str.len_bytes() > LONGEST_ID,
            )
            for name in _IDS
        ),
        (Reason("time is missing", column="time"), trouble == times.MISSING),
        (
            Reason("time cannot be read", column="time", fix="say in [data] time_format how times are written"),
            trouble == times.UNREADABLE,
        ),
        (
            Reason(
                "time has no time zone",
                column="time",
                fix="say in [data] timezone where that clock stood, such as Europe/London, or UTC",
            ),
            trouble == times.ZONELESS,
        ),
        (
            Reason("time does not exist, the clock skipped that hour", column="time", fix="check [data] timezone"),
            trouble == times.SKIPPED_HOUR,
        ),
        (Reason("behaviour is missing", column="behaviour", fix=mapping), pl.col("behaviour").is_null()),
        (Reason("unknown behaviour", column="behaviour", fix=mapping), meaning == "?"),
        (Reason("quantity is not a number", column="quantity"), _no_number("quantity")),
        (
            Reason("quantity is negative", column="quantity", fix="write what came back as a row of behaviour refund"),
            quantity < 0,
        ),
        (Reason("quantity is zero", column="quantity"), quantity == 0),
        (Reason("price is not a number", column="price"), _no_number("price")),
        (Reason("price is negative", column="price"), price < 0),
        (
            Reason("propensity is not in (0, 1]", column="propensity"),
            _no_number("propensity") | (propensity <= 0) | (propensity > 1),
        ),
        (
            Reason("item is not in the catalogue", column="item", fix="add it there, or leave out [data] catalogue"),
            outside,
        ),
    ]


def nearest(name: str, present: Sequence[str]) -> str:
    """The present name that looks most like ``name``, or an empty string."""
    folded = {heading.lower().replace("_", "").replace(" ", ""): heading for heading in present}
    close = difflib.get_close_matches(name.lower().replace("_", "").replace(" ", ""), list(folded), n=1)
    return folded[close[0]] if close else ""


def _headings(source: Source, layout: Layout) -> dict[EventColumn, tuple[str, ...]]:
    """Canonical column -> the source columns it is read from."""
    found: dict[EventColumn, tuple[str, ...]] = {}
    for name in EVENT_COLUMNS:
        joined = tuple(heading for heading in layout.join.get(name, ()) if heading in source.columns)
        single = next((heading for heading in layout.columns.get(name, ()) if heading in source.columns), None)
        if joined or single:
            found[name] = joined or (cast(str, single),)
        elif name in layout.required:
            wanted = layout.columns.get(name) or (name,)
            guess = next(filter(None, (nearest(word, source.columns) for word in (*wanted, name))), "")
            raise InputError(
                f"there is no column '{wanted[0]}' for {name}" + (f"; did you mean '{guess}'?" if guess else ""),
                where=f"{source.name}, columns present: {', '.join(source.columns[:40])}",
                fix=f"in rolegen.toml under [data] columns write {name} = "
                + (f'"{guess}"' if guess else '"the name of that column"'),
            )
    return found


def as_text(heading: str, dtype: pl.DataType) -> pl.Expr:
    """A source column as stripped text, empty as null, whole numbers without a decimal point."""
    column = pl.col(heading)
    if dtype.is_float():  # ids of a column with gaps arrive as 13085.0
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(whole.cast(dtype) == column).then(whole.cast(pl.String)).otherwise(column.cast(pl.String))
    text = column.cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def _no_number(name: str) -> pl.Expr:
    """Written, but not as a finite number."""
    return pl.col(f"{name}_written") & ~pl.col(name).is_finite().fill_null(False)
