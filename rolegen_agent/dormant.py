"""Who is dormant at a decision time, and why: the rules of design §2, and how to add another.

A rule sees only events strictly before the decision time. Order events count as they stand; refunds do not undo them
here, for a customer who sent something back was a customer.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

import polars as pl

from rolegen_errors import ProjectError

from .settings import DormancySettings

COLUMNS = ("user", "reason", "last_order", "days", "orders", "views", "active_days")


class DormancyRule(Protocol):
    """One meaning of "dormant"."""

    def __call__(self, past: pl.LazyFrame, at: datetime, settings: DormancySettings) -> pl.LazyFrame:
        """One row per dormant user from the events before ``at``, with the columns of :func:`dormant_users`."""
        ...


def lapsed_buyers(past: pl.LazyFrame, at: datetime, settings: DormancySettings) -> pl.LazyFrame:
    """Ordered before, but not within the last ``days`` days: the last order is at least so long ago."""
    orders, last = pl.col("orders"), pl.col("last_order")
    reason = pl.format(
        "lapsed buyer: last order {}, {} days before; {} {} in all",
        last.dt.strftime("%Y-%m-%d"),
        "days",
        orders,
        _plural(orders, "order"),
    )
    lapsed = _counts(past, at).filter(last <= at - timedelta(days=settings.days))
    return lapsed.with_columns(reason.alias("reason"))


def engaged_non_buyers(past: pl.LazyFrame, at: datetime, settings: DormancySettings) -> pl.LazyFrame:
    """Active and looking within the window, but hardly ordering: ``views``, ``active_days`` and ``orders`` are those
    of the last ``window_days`` days."""
    window = past.filter(pl.col("time") >= at - timedelta(days=settings.window_days))
    counts = _counts(window, at).drop("last_order", "days")
    last = _counts(past, at).select("user", "last_order", "days")
    orders = pl.col("orders")
    some_orders = pl.format("only {} {}", orders, _plural(orders, "order"))
    reason = pl.format(
        "engaged non-buyer: {} active {} and {} {} in {} days, {}",
        "active_days",
        _plural(pl.col("active_days"), "day"),
        "views",
        _plural(pl.col("views"), "view"),
        pl.lit(settings.window_days),
        pl.when(orders == 0).then(pl.lit("no order")).otherwise(some_orders),
    )
    enough = (pl.col("active_days") >= settings.min_active_days) & (pl.col("views") >= settings.min_views)
    engaged = counts.filter(enough & (orders <= settings.max_orders))
    return engaged.join(last, on="user", how="left").with_columns(reason.alias("reason"))


RULES: dict[str, DormancyRule] = {"lapsed_buyer": lapsed_buyers, "engaged_non_buyer": engaged_non_buyers}
"""Name in ``[dormancy] rule`` -> rule; put a rule of your own in before a project uses it."""


def dormant_users(
    events: pl.LazyFrame | pl.DataFrame, at: datetime, rule: DormancySettings | None = None
) -> pl.DataFrame:
    """The dormant users at ``at``, by user.

    Args:
        events: the store's events (user, time, behaviour, session); only those strictly before ``at`` are looked at.
        at: decision time, with a zone.
        rule: ``[dormancy]`` of the project; by default a lapsed buyer of 90 days.

    Returns:
        user, reason (a sentence), last_order (UTC, null without one), days (whole days since the last order, null
        without one), orders (distinct order days), views, active_days (days in UTC with any event).

    Raises:
        ProjectError: there is no such rule, or ``at`` has no time zone.
    """
    settings = rule or DormancySettings()
    found = RULES.get(settings.rule)
    if found is None:
        raise ProjectError(
            f"there is no dormancy rule '{settings.rule}'", where="[dormancy] rule", fix=f"choose {' or '.join(RULES)}"
        )
    if at.tzinfo is None:
        raise ProjectError(f"the decision time {at} has no time zone", fix="pass an aware datetime, see parse_date")
    at = at.astimezone(UTC)
    past = events.lazy().filter(pl.col("time") < at)
    return found(past, at, settings).select(COLUMNS).sort("user").collect()


def _counts(past: pl.LazyFrame, at: datetime) -> pl.LazyFrame:
    """user, last_order, days, orders, views, active_days of each user. The lines of one basket are one order,
    and so are the baskets of one day (as ``Trajectory.orders`` of the loop counts them)."""
    behaviour, moment = pl.col("behaviour"), pl.col("time")
    counts = past.group_by("user").agg(
        moment.filter(behaviour == "order").max().alias("last_order"),
        moment.filter(behaviour == "order").dt.date().n_unique().cast(pl.Int64).alias("orders"),
        (behaviour == "view").sum().cast(pl.Int64).alias("views"),
        moment.dt.date().n_unique().cast(pl.Int64).alias("active_days"),
    )
    return counts.with_columns((pl.lit(at) - pl.col("last_order")).dt.total_days().alias("days"))


def _plural(count: pl.Expr, word: str) -> pl.Expr:
    return pl.when(count == 1).then(pl.lit(word)).otherwise(pl.lit(f"{word}s"))
