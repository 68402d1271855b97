"""The shop that is served: a made-up log over 5,000 items, a small real backbone, and decisions of the evidence reasoner.

People have tastes (a few of forty categories, a popular item rather than a rare one) and come back for what they bought. Nothing here
is measured for quality: what counts is that history, pools, candidates and trie have the sizes of a real shop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from rolegen_agent import RoleGen

AT = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 365
CATEGORIES = 40
WORDS = ("red", "small", "old", "bright", "plain", "round", "heavy", "soft", "long", "blue")
PROJECT = """\
[data]
events = "log.parquet"
[backbone]
epochs = 1
max_returns = {returns}
max_read = 0
max_hints = 40
max_spells = 2000
"""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Size:
    """How much there is of everything."""

    items: int = 5_000
    users: int = 6_000
    decided: int = 2_000
    returns: int = 3_000


QUICK = Size(items=600, users=600, decided=60, returns=200)


@dataclass(frozen=True)
class Prepared:
    """A project that can be served."""

    folder: Path
    decided: list[str]
    """users with a decision"""
    others: list[str]
    """users of the log without one"""
    items: list[str]


def prepare(folder: Path, size: Size, progress: Progress) -> Prepared:
    """The project in ``folder``; what is there already is not made again."""
    log = folder / "log.parquet"
    if not log.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draw_log(size).write_parquet(log)
        (folder / "rolegen.toml").write_text(PROJECT.format(returns=size.returns), "utf-8")
    with RoleGen.open(folder) as shop:
        if not shop.project.events.exists():
            shop.ingest(progress=progress)
        shop.train(AT, progress=progress)
        dormant = shop.dormant(AT)["user"].sort().to_list()
        decided = dormant[: size.decided]
        shop.awaken(decided, AT, progress=progress)
        known = pl.read_parquet(shop.project.events, columns=["user"])["user"].unique().sort().to_list()
        items = pl.read_parquet(shop.project.items, columns=["item"])["item"].sort().to_list()
    return Prepared(folder, decided, sorted(set(known) - set(decided)), items)


def draw_log(size: Size, seed: int = 0) -> pl.DataFrame:
    """Events of a year in canonical columns: visits with views, carts and orders."""
    random = np.random.default_rng(seed)
    category = np.arange(size.items) % CATEGORIES
    popular = 1.0 / (1 + random.permutation(size.items)) ** 0.6
    price = np.round(np.exp(random.normal(2, 0.7, size.items)), 2)
    shelf = [np.flatnonzero(category == number) for number in range(CATEGORIES)]
    chance = [popular[items] / popular[items].sum() for items in shelf]
    start = AT - timedelta(days=DAYS)
    users, picked, seconds, kinds, sessions = [], [], [], [], []
    session = 0
    for user in range(size.users):
        taste = random.choice(CATEGORIES, 3, replace=False)
        mine: list[int] = []
        # A third has stopped coming some months ago: those are dormant.
        last = DAYS - (100 + 100 * random.random() if user % 3 == 0 else 5 * random.random())
        for day in np.sort(random.uniform(0, last, 2 + random.poisson(5))):
            session += 1
            aisle = taste[random.integers(3)]
            looked = random.choice(shelf[aisle], 4, p=chance[aisle])
            bought = [int(looked[0])] if random.random() < 0.5 else []
            if mine and random.random() < 0.4:
                bought.append(mine[random.integers(len(mine))])
            for offset, (item, kind) in enumerate(
                [
                    *((int(one), "view") for one in looked),
                    *((one, "cart") for one in bought[:1]),
                    *((one, "order") for one in bought),
                ]
            ):
                users.append(user)
                picked.append(item)
                seconds.append(int(day * 86_400) + 20 * offset)
                kinds.append(kind)
                sessions.append(session)
            mine += bought
    # Whatever is in the catalogue was sold once, so that all of it is in stock.
    for item in range(size.items):
        users.append(item % size.users)
        picked.append(item)
        seconds.append(3_600 + 60 * (item // size.users))
        kinds.append("order")
        sessions.append(session + 1 + item)
    row = np.array(picked)
    adjective = np.array(WORDS)
    return pl.DataFrame(
        {
            "user": [f"u{user:05}" for user in users],
            "item": [f"i{item:05}" for item in picked],
            "time": [start + timedelta(seconds=one) for one in seconds],
            "behaviour": kinds,
            "quantity": np.ones(len(row)),
            "price": price[row],
            "session": [f"s{one}" for one in sessions],
            "title": [
                f"{adjective[item % 10]} {adjective[item // 10 % 10]} thing {item} of kind {item % CATEGORIES}"
                for item in picked
            ],
            "category": [f"kind {item % CATEGORIES}" for item in picked],
        }
    ).unique(["user", "item", "time", "behaviour"], maintain_order=True)
