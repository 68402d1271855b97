"""A real log month by month: does the loop, carried forward, rank better than the model of the first month?

On the first day of each month customers who were silent for 90 days are decided on, by two arms of the real product: ``loop`` records what came
of its decisions, learns lessons and improves before it decides again; ``frozen`` keeps the model and the evidence of the first month, though it
reads the log of the day as every decision does. Nothing shown here reached anybody, so this tells of ranking, not of orders brought about.

*Who.* A sample drawn by lot, whose outcomes the loop learns from, and those who came back within 30 days, at most ``judged``, who are scored: a case is a
customer who came back, the target what they bought on that first day. Outcomes of the latter are never recorded unless the lot drew them too, so
what the loop learns of order rates is what a shop would see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rolegen_agent import RoleGen
from rolegen_agent.ingest import bundled_log
from rolegen_agent.outcomes import first_order_baskets, outcomes_of
from rolegen_agent.project import write_project_file

from ..metrics import Interval, clustered, scores
from .product import Arm, copied, kept_once

Progress = Callable[[str, int, int], None]
HORIZON_DAYS = 30
ARMS = (Arm(name="loop"), Arm(name="frozen", reflects=False, improves=False))


@dataclass(frozen=True, kw_only=True)
class Months:
    """Which decisions are replayed."""

    first: datetime
    count: int
    drawn: int
    """customers drawn by lot each month"""
    judged: int
    """customers who came back that are scored each month, at most"""
    one_in: int = 1
    """of the log's customers, every so many-th is there"""

    @property
    def dates(self) -> list[datetime]:
        start = self.first.year * 12 + self.first.month - 1
        return [datetime((start + k) // 12, (start + k) % 12 + 1, 1, tzinfo=UTC) for k in range(self.count)]


ALL = Months(first=datetime(2010, 9, 1, tzinfo=UTC), count=15, drawn=100, judged=60)


def prepare_log(folder: Path, months: Months, training: Mapping[str, object], progress: Progress) -> None:
    """The bundled log, ingested and learnt from before the first month; done once, and copied for each arm."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rolegen.toml").exists():
        some = pl.col("CustomerID").cast(pl.Int64) % months.one_in == 0
        if months.one_in > 1:
            pl.read_parquet(bundled_log()).filter(some).write_parquet(folder / "some.parquet")
        write_project_file(
            folder, preset="online_retail_ii", events="some.parquet" if months.one_in > 1 else None, currency="GBP"
        )
    with _opened(folder, training) as shop:
        shop.ingest(progress=progress)
        shop.train(months.dates[0], progress=progress)


def replay(
    arm: Arm, base: Path, folder: Path, months: Months, training: Mapping[str, object], progress: Progress
) -> dict[str, Any]:
    """The cases of all months: lists of ``month``, ``user``, ``hit1``, ``recall10``. A stopped replay goes on after its last whole month."""
    copied(base, folder)
    cases: dict[str, list[Any]] = {"month": [], "user": [], "hit1": [], "recall10": []}
    decisions: list[tuple[datetime, dict[str, str]]] = []
    with _opened(folder, training) as shop:
        for number, at in enumerate(months.dates):
            progress(f"replay, {arm.name}", number, months.count)
            found = kept_once(
                folder / f"month-{at:%Y-%m}.json",
                partial(_month, arm, shop, at, months, decisions, progress),
            )
            decisions.append((at, found["drawn"]))
            for name, values in found["cases"].items():
                cases[name] += values
    progress(f"replay, {arm.name}", months.count, months.count)
    return cases


def _month(
    arm: Arm,
    shop: RoleGen,
    at: datetime,
    months: Months,
    decisions: Sequence[tuple[datetime, dict[str, str]]],
    progress: Progress,
) -> dict[str, Any]:
    """One month; every step of it may be repeated."""
    events = pl.read_parquet(shop.project.events)
    if arm.reflects or arm.improves:
        known = events.filter(pl.col("time") < at)
        for when, earlier in decisions[-3:]:  # a month may be shorter than the horizon; what is final stays so
            shop.memory.record_outcomes(outcomes_of(known, earlier, when, HORIZON_DAYS, at))
        if decisions and arm.reflects:
            shop.reflect(at)
        if decisions and arm.improves:
            shop.improve(at, progress=progress)
    dormant = shop.dormant(at)["user"].to_list()
    baskets = first_order_baskets(events, at, HORIZON_DAYS, dormant)
    lot = np.random.default_rng([at.year, at.month]).permutation(len(dormant))
    drawn = [dormant[place] for place in np.sort(lot[: months.drawn])]
    judged = [user for user in (dormant[place] for place in lot) if user in baskets][: months.judged]
    users = list(dict.fromkeys([*drawn, *judged]))
    run = shop.awaken(users, at).run
    made = {user: shop.trace(user, run=run) for user in users}
    slates = {user: [item.item for item in made[user].slate.items] for user in judged}
    score = scores(slates, {user: baskets[user].items for user in judged})
    return {
        "drawn": {user: made[user].decision for user in drawn},
        "cases": {
            "month": [f"{at:%Y-%m}"] * len(judged),
            "user": list(score.users),
            "hit1": score.hit1.tolist(),
            "recall10": score.recall.tolist(),
        },
    }


def replay_figures(arms: Mapping[str, Mapping[str, list[Any]]]) -> dict[str, float]:
    """``replay.hit1.ARM`` over all cases, with intervals, their paired difference, and hit@1 by month. Intervals resample customers."""
    found: dict[str, float] = {"replay.cases.all": float(len(arms["loop"]["user"]))}
    users = arms["loop"]["user"]
    for metric in ("hit1", "recall10"):
        for name, cases in arms.items():
            found |= _told(f"replay%s.{metric}.{name}", clustered(cases[metric], users))
        gain = np.array(arms["loop"][metric]) - np.array(arms["frozen"][metric])
        found |= _told(f"replay_difference%s.{metric}.loop", clustered(gain, users))
    for name, cases in arms.items():
        months = np.array(cases["month"])
        for month in dict.fromkeys(cases["month"]):
            here = np.array(cases["hit1"])[months == month]
            found[f"replay_months.hit1.{name}@{month}"] = float(here.mean())
            found[f"replay_months.cases.{name}@{month}"] = float(len(here))
    return found


def _told(key: str, value: Interval) -> dict[str, float]:
    told = asdict(value)
    return {
        key % suffix: told[name]
        for name, suffix in (("value", ""), ("low", "_low"), ("high", "_high"))
        if told[name] is not None
    }


def _opened(folder: Path, training: Mapping[str, object]) -> RoleGen:
    return RoleGen.open(folder, overrides={"backbone": training, "slate": {"horizon_days": HORIZON_DAYS}})
