"""The log as the statistics read it: strictly before the as-of time, with dense codes, visits and net orders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import InputError

EVENT_COLUMNS = ("event", "user", "item", "time", "behaviour", "quantity", "price", "session")
ITEM_COLUMNS = ("item", "title", "category", "price")


@dataclass(frozen=True)
class Scope:
    """What the statistics need to know beside the rows of the users."""

    items: pl.DataFrame
    """the catalogue in code order: item, title, category, price, code, category_code"""
    categories: tuple[str, ...]
    at: datetime
    has_views: bool
    """the log tells what was looked at or put into a cart"""
    has_exposures: bool
    """the log tells what was shown"""

    @property
    def item_category(self) -> npt.NDArray[np.int64]:
        return self.items["category_code"].to_numpy().astype(np.int64)


@dataclass(frozen=True)
class Log(Scope):
    """``engaged`` holds view, cart and order rows: user, item, category (codes), time, visit, place, day, kind, price, row, own (not shown before in the same place).

    A *visit* is all that one user did at one moment (the lines of one invoice), a *place* is a session, or a day where
    the log has no sessions, ``row`` the place in the log by user and time. ``orders`` holds one row for each (user, day, item) of ``engaged`` that was ordered.
    """

    engaged: pl.DataFrame
    exposed: pl.DataFrame
    """what was shown: user, item, category, time, place, price, propensity (null where it was not logged), row"""
    orders: pl.DataFrame
    users: pl.Series
    """ids in code order"""
    refunded: pl.DataFrame
    """user and item (codes) of the orders that do not count"""


def require_columns(frame: pl.DataFrame, needed: tuple[str, ...], what: str) -> None:
    """Raise ``InputError`` naming the columns that ``frame`` lacks."""
    missing = [name for name in needed if name not in frame.columns]
    if missing:
        raise InputError(
            f"the {what} frame lacks {', '.join(missing)}",
            where=f"columns: {', '.join(frame.columns)}",
            fix="hand in the frames that `rolegen ingest` wrote",
        )


def require_zone(at: datetime) -> datetime:
    """Return ``at``, or raise ``InputError`` when it has no timezone: a leak of hours would go unseen."""
    if at.tzinfo is None:
        raise InputError(
            "a decision time needs a timezone", where=at.isoformat(), fix="pass datetime(..., tzinfo=timezone.utc)"
        )
    return at


def read_catalogue(items: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The catalogue in code order, with codes, and the names of the categories in theirs."""
    require_columns(items, ITEM_COLUMNS, "items")
    if items["category"].null_count():
        raise InputError(
            f"item {items.filter(pl.col('category').is_null())['item'].min()!r} has no category",
            fix="give each item one, if need be the same; rolegen_agent.artefacts.known_items makes them from titles",
        )
    catalogue = items.select(ITEM_COLUMNS).sort("item").with_row_index("code")
    categories = catalogue["category"].unique().sort()
    codes = pl.DataFrame({"category": categories}).with_row_index("category_code")
    return catalogue.join(codes, on="category", how="left", maintain_order="left"), tuple(categories.to_list())


def read_log(events: pl.DataFrame, items: pl.DataFrame, *, at: datetime) -> Log:
    """Select, encode and net the events before ``at``. Events of items outside the catalogue are left out."""
    require_columns(events, EVENT_COLUMNS, "events")
    require_zone(at)
    catalogue, categories = read_catalogue(items)
    known = (
        events.filter(pl.col("time") < at)
        .rename({"item": "item_id"})
        .join(
            catalogue.select(item_id="item", item="code", category="category_code", list_price="price"),
            on="item_id",
            how="inner",
            maintain_order="left",
        )
        .with_columns(
            user_id="user", user=pl.col("user").rank("dense").cast(pl.UInt32) - 1, day=pl.col("time").dt.date()
        )
        .sort("user", "time", maintain_order=True)
        .with_row_index("row")
    )
    refunded = (
        known.group_by("user", "item")
        .agg(
            back=pl.col("quantity").filter(pl.col("behaviour") == "refund").sum(),
            sold=pl.col("quantity").filter(pl.col("behaviour") == "order").sum(),
        )
        .filter((pl.col("back") > 0) & (pl.col("back") >= pl.col("sold")))
        .select("user", "item")
    )
    place = pl.struct("user", pl.coalesce("session", pl.col("day").cast(pl.String)))
    known = known.with_columns(place=place.rank("dense"), price=pl.coalesce("price", "list_price"))
    exposed = known.filter(pl.col("behaviour") == "expose").select(
        "user",
        "item",
        "category",
        "time",
        "place",
        "price",
        propensity=pl.col("propensity").cast(pl.Float64) if "propensity" in known.columns else pl.lit(None, pl.Float64),
        row="row",
    )
    engaged = (
        known.filter(pl.col("behaviour").is_in(["view", "cart", "order"]))
        .join(refunded.with_columns(undone=pl.lit(True)), on=["user", "item"], how="left", maintain_order="left")
        .filter(pl.col("undone").is_null() | (pl.col("behaviour") != "order"))
        .select(
            "user",
            "item",
            "category",
            "time",
            "day",
            "place",
            "price",
            "row",
            kind="behaviour",
            visit=pl.struct("user", "time").rle_id(),
        )
        .join(
            exposed.select("place", "item", shown_at="row").unique(["place", "item"], keep="first"),
            on=["place", "item"],
            how="left",
            maintain_order="left",
        )
        .with_columns(own=pl.col("shown_at").is_null() | (pl.col("shown_at") > pl.col("row")))
        .drop("shown_at")
    )
    orders = (
        engaged.filter(pl.col("kind") == "order")
        .group_by("user", "day", "item")
        .agg(pl.col("category").first(), pl.col("time").min(), pl.col("price").min())
        .sort("user", "day", "item")
        .with_columns(basket=pl.struct("user", "day").rle_id())
    )
    return Log(
        engaged=engaged,
        exposed=exposed,
        orders=orders,
        items=catalogue,
        categories=categories,
        at=at,
        has_views=bool(engaged.select((pl.col("kind") != "order").any()).item()),
        has_exposures=not exposed.is_empty(),
        users=known["user_id"].unique().sort(),
        refunded=refunded,
    )
