"""A planted log: events as a shop would have them, and beside them what only the planter knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from .goods import PLANTED, Floats, Ints
from .shop import DRAWS, Crowd, Shop

START = datetime(2030, 1, 1, tzinfo=UTC)
_KINDS = ("expose", "view", "cart", "order", "refund")
COLUMNS = ("event", "user", "item", "time", "behaviour", "quantity", "price", "session", "propensity")
_BACK_DAYS = 2
"""a refund comes so many days after its order"""


@dataclass(frozen=True, eq=False)
class Planted:
    """One simulated log.

    ``events`` are the product's: event, user, item, time, behaviour, quantity, price, session, propensity. ``roles`` holds event and role for
    each event whose role is known: what the item really did for that user at that moment.
    """

    shop: Shop
    events: pl.DataFrame
    items: pl.DataFrame
    roles: pl.DataFrame
    needs: pl.DataFrame
    """user (as in the events), time, need (category code, -1 for none), stage, habit (item code, -1): the hidden state after each visit"""

    @property
    def end(self) -> datetime:
        """When the log ends: nobody's visits before it are missing."""
        return START + timedelta(days=self.shop.days)


def plant(shop: Shop, users: int, *, seed: int = 0) -> Planted:
    """Simulate ``users`` up to the end of the log."""
    random = np.random.default_rng([seed, 3])
    crowd, number = shop.newcomers(users, random), np.arange(users)
    parts: list[pl.DataFrame] = []
    needs: list[pl.DataFrame] = []
    step = 0
    while len(number):
        uniform = random.random((DRAWS, len(number)))
        shown, chance = shop.show(crowd, uniform)
        parts += visit(shop, crowd, number, np.full(len(number), step), shown, chance, uniform)
        needs.append(pl.DataFrame({"user": number, "day": crowd.day, **crowd.mind.told()}))
        crowd.day = crowd.day + shop.gap(uniform)
        still = np.flatnonzero(crowd.day < shop.days)
        crowd, number, step = crowd.take(still), number[still], step + 1
    events = dated(shop, parts)
    roles = events.filter(pl.col("role") >= 0).select(
        "event", role=pl.col("role").replace_strict(dict(enumerate(PLANTED)), return_dtype=pl.String)
    )
    hidden = pl.concat(needs).select(
        user=user_name("user"),
        time=pl.lit(START) + pl.duration(seconds=pl.col("day") * 86_400),
        need="need",
        stage="stage",
        habit="habit",
    )
    return Planted(shop, events.select(COLUMNS), shop.goods.frame(), roles, hidden)


def dated(shop: Shop, parts: list[pl.DataFrame]) -> pl.DataFrame:
    """The rows of visits as events in time order: ``COLUMNS``, and role (code, -1 where unknown)."""
    return (
        pl.concat(parts)
        .sort("user", "day", "place")
        .with_row_index("event")
        .with_columns(
            event=pl.col("event").cast(pl.Int64),
            time=pl.lit(START) + pl.duration(seconds=pl.col("day") * 86_400 + pl.col("place") * 60),
            session=pl.format("{}-{}", "user", "step"),
            user=user_name("user"),
            item=pl.col("code").replace_strict(dict(enumerate(shop.goods.ids)), return_dtype=pl.String),
            price=pl.col("code").replace_strict(dict(enumerate(shop.goods.price.tolist())), return_dtype=pl.Float64),
            quantity=pl.lit(1.0),
        )
    )


def user_name(number: str) -> pl.Expr:
    """The id of a user in the events, from the column that holds the number."""
    return pl.format("u{}", pl.col(number).cast(pl.String).str.zfill(6))


def visit(
    shop: Shop, crowd: Crowd, number: Ints, step: Ints, shown: Ints, chance: Floats, uniform: Floats
) -> list[pl.DataFrame]:
    """One visit of the users ``number``, their ``step``-th, which changes ``crowd``: its rows; ``place`` orders them within it."""
    day = crowd.day.copy()
    done = shop.step(crowd, shown, uniform)
    none = np.full(len(day), -1)
    viewed = np.where(done.viewed, shown, -1)
    rebuy_role = np.where(done.rebuy >= 0, PLANTED.index("replenishment"), -1)
    rows: list[tuple[str, int, Ints, Ints]] = [
        ("order", 0, done.rebuy, rebuy_role),
        ("view", 1, done.organic, done.organic_role),
        ("expose", 2, shown, none),
        ("view", 3, viewed, done.view_role),
        ("cart", 4, done.cart, none),
        ("order", 5, done.order, done.order_role),
        ("refund", 6, np.where(done.refunded, done.order, -1), none),
    ]
    parts = []
    for kind, place, item, role in rows:
        who = np.flatnonzero(item >= 0)
        parts.append(
            pl.DataFrame(
                {
                    "user": number[who],
                    "step": step[who],
                    "day": day[who] + (_BACK_DAYS if kind == "refund" else 0),
                    "place": np.full(len(who), place),
                    "code": item[who],
                    "behaviour": np.full(len(who), kind),
                    "role": role[who],
                    "propensity": chance[who] if kind == "expose" else np.full(len(who), np.nan),
                }
            ).with_columns(pl.col("propensity").fill_nan(None))
        )
    return parts
