"""A made-up gift shop in which the protocol can be worked out by hand, or filled at random."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from rolegen_evals.reactivation.protocol import VALIDATION, Shop

CUT = VALIDATION.cut
Row = tuple[str, str, float]


def events(rows: Sequence[Row], since: datetime = CUT) -> pl.DataFrame:
    """Orders from (user, item, days relative to ``since``)."""
    return pl.DataFrame(
        {
            "event": range(len(rows)),
            "user": [row[0] for row in rows],
            "item": [row[1] for row in rows],
            "time": [since + timedelta(days=row[2]) for row in rows],
            "behaviour": ["order"] * len(rows),
            "quantity": [1.0] * len(rows),
            "price": [2.0] * len(rows),
            "session": [None] * len(rows),
            "propensity": [None] * len(rows),
        },
        schema_overrides={"time": pl.Datetime("us", "UTC"), "user": pl.String, "item": pl.String}
        | {"session": pl.String, "propensity": pl.Float32},
    )


def items_of(log: pl.DataFrame) -> pl.DataFrame:
    """A catalogue whose titles are two words, by the number in the item's id."""
    ids = log["item"].unique().sort().to_list()
    words = ("red", "blue", "green"), ("mug", "lamp", "tray", "clock", "bag")
    number = [int("0" + "".join(filter(str.isdigit, item))) for item in ids]
    return pl.DataFrame({"item": ids, "title": [f"{words[0][k % 3]} {words[1][k % 5]}" for k in number]})


def random_rows(users: int = 60, items: int = 40, seed: int = 0) -> list[Row]:
    """Orders of two years; everybody has a favourite item, and many are silent for months."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for user in range(users):
        day = -float(random.integers(300, 440))
        while day < 60:
            basket = sorted({user % items, *random.integers(0, items, 4).tolist()})
            rows += [(f"u{user:03d}", f"i{item:02d}", day + 0.5) for item in basket]
            day += float(random.choice([25, 40, 110, 130]))
    return rows


def shop(rows: Sequence[Row]) -> Shop:
    """The validation period over these orders."""
    log = events(rows)
    return Shop(log, items_of(log), VALIDATION)
