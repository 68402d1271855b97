"""Layouts: how the columns of a known public log are read. They are tables of data; a project file overrides columns.

Expressions speak of canonical columns. ``derive`` and ``skip`` see them as text (stripped, empty is null), except
quantity, price and propensity, which are numbers by then; ``skip`` also sees the canonical behaviour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

import polars as pl

from ..settings import CatalogueColumn, DataSettings, EventColumn, PresetName

EVENT_COLUMNS = cast(tuple[EventColumn, ...], get_args(EventColumn))
CATALOGUE_COLUMNS = cast(tuple[CatalogueColumn, ...], get_args(CatalogueColumn))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one event log is read."""

    columns: Mapping[EventColumn, tuple[str, ...]]
    """canonical name -> accepted source headings, the first one present is taken"""
    required: tuple[EventColumn, ...] = ("user", "item", "time", "behaviour")
    join: Mapping[EventColumn, tuple[str, ...]] = field(default_factory=dict)
    """canonical name -> source headings whose texts are joined by a space"""
    behaviours: Mapping[str, str] = field(default_factory=dict)
    behaviour: str | None = None
    """behaviour of every row"""
    time_formats: tuple[str, ...] = ()
    timezone: str | None = None
    duplicates: Literal["error", "drop"] = "error"
    derive: Mapping[EventColumn, pl.Expr] = field(default_factory=dict)
    """canonical columns computed from others; a column that the project file names is read instead"""
    skip: tuple[tuple[str, pl.Expr], ...] = ()
    """(reason, rows that are counted under it and left out), the first that holds counts"""
    negative_refunds: bool = False
    """refunds are written with a negative quantity"""


_SESSION, _ITEM, _USER = pl.col("session"), pl.col("item"), pl.col("user")

LAYOUTS: Mapping[PresetName, Layout] = {
    # Chen (2012), as published by UCI (two sheets) and in the older one-year variant; CSV copies write 13085.0.
    "online_retail_ii": Layout(
        columns={
            "user": ("Customer ID", "CustomerID"),
            "item": ("StockCode",),
            "time": ("InvoiceDate",),
            "quantity": ("Quantity",),
            "price": ("Price", "UnitPrice"),
            "session": ("Invoice", "InvoiceNo"),
            "title": ("Description",),
        },
        required=("user", "item", "time", "quantity", "price", "session"),
        time_formats=("%Y-%m-%d %H:%M:%S", "%m/%d/%Y %H:%M", "%Y-%m-%dT%H:%M:%S%.f"),
        timezone="Europe/London",
        duplicates="drop",
        derive={
            "user": _USER.str.strip_suffix(".0"),
            "behaviour": pl.when(_SESSION.str.starts_with("C")).then(pl.lit("refund")).otherwise(pl.lit("order")),
        },
        skip=(
            ("no user", _USER.is_null()),
            ("not an item", ~_ITEM.str.contains(r"^\d{5}[A-Za-z]{0,2}$")),  # postage, fees, samples, gift vouchers
            ("stock adjustment", (pl.col("behaviour") == "order") & (pl.col("quantity") <= 0)),
            ("no price", pl.col("price") <= 0),
        ),
        negative_refunds=True,
    ),
    # REES46 Open CDP, "eCommerce behavior data from multi category store".
    "rees46": Layout(
        columns={
            "user": ("user_id",),
            "item": ("product_id",),
            "time": ("event_time",),
            "behaviour": ("event_type",),
            "price": ("price",),
            "session": ("user_session",),
            "category": ("category_code",),
        },
        join={"title": ("brand", "category_code")},
        behaviours={"view": "view", "cart": "cart", "purchase": "order", "remove_from_cart": "drop"},
        time_formats=("%Y-%m-%d %H:%M:%S UTC",),
        duplicates="drop",  # a page that was loaded twice within a second
    ),
    # RetailRocket recommender system dataset, events.csv.
    "retailrocket": Layout(
        columns={
            "user": ("visitorid",),
            "item": ("itemid",),
            "time": ("timestamp",),
            "behaviour": ("event",),
            "session": ("transactionid",),
        },
        behaviours={"view": "view", "addtocart": "cart", "transaction": "order"},
        time_formats=("ms",),
        duplicates="drop",
    ),
}


def layout_of(data: DataSettings) -> Layout:
    """The preset's layout, or the canonical one, with everything that the project file says put over it."""
    base = LAYOUTS[data.preset] if data.preset else Layout(columns={name: (name,) for name in EVENT_COLUMNS})
    columns = dict(base.columns) | {name: (source,) for name, source in data.columns.items()}
    named = set(data.columns)
    behaviour = data.behaviour or base.behaviour
    derive = {name: value for name, value in base.derive.items() if name not in named}
    if behaviour:
        columns.pop("behaviour", None)
        derive["behaviour"] = pl.lit(behaviour)
    required = set(base.required) | named
    if "behaviour" in derive:
        required.discard("behaviour")
    return replace(
        base,
        columns=columns,
        required=tuple(name for name in EVENT_COLUMNS if name in required),
        join={name: value for name, value in base.join.items() if name not in named},
        behaviours=dict(base.behaviours) | dict(data.behaviours),
        behaviour=behaviour,
        time_formats=(data.time_format,) if data.time_format else base.time_formats,
        timezone=data.timezone or base.timezone,
        duplicates=data.duplicates or base.duplicates,
        derive=derive,
    )
