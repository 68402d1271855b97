"""What a policy may know: the log before a date, and where each user stands in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl

from rolegen_agent.evidence.log import Log, read_log
from rolegen_agent.evidence.options import EvidenceOptions
from rolegen_agent.evidence.states import with_states
from rolegen_agent.evidence.units import Units, read_units
from rolegen_errors import InputError

from ..worlds.goods import Floats, Ints
from ..worlds.truth import states_towards


@dataclass(frozen=True, eq=False)
class Past:
    """The log strictly before ``at``; items are those of the catalogue, in the order of ``ids``."""

    events: pl.DataFrame
    items: pl.DataFrame
    """item, title, category, price"""
    at: datetime
    options: EvidenceOptions

    @cached_property
    def log(self) -> Log:
        return read_log(self.events, self.items, at=self.at)

    @cached_property
    def units(self) -> Units:
        """Exposures whose horizon is over, with the state of their users."""
        found = read_units(self.log, self.options)
        if found is None:
            raise InputError(
                "no exposure is older than the horizon", fix="let the shop live longer before the first round"
            )
        return found

    @cached_property
    def ids(self) -> list[str]:
        return list(self.log.items["item"].to_list())

    @cached_property
    def category(self) -> Ints:
        """(I,)"""
        return self.log.item_category

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The log's numbers of users, as ``read_log`` gives them."""
        users = self.events.filter(pl.col("time") < self.at)["user"].unique().sort()
        return {user: place + 1 for place, user in enumerate(users.to_list())}

    def standing(self, users: list[str]) -> Standing:
        """Where users stand at ``at``; each must have been seen before."""
        asked = pl.DataFrame(
            {"user": [self.numbers[user] for user in users], "place": range(len(users))},
            schema={"user": pl.UInt32, "place": pl.Int64},
        ).with_columns(
            category=pl.lit(0, pl.UInt32),
            time=pl.lit(self.at).cast(self.log.engaged.schema["time"]),
            row=pl.lit(2**32 - 1, self.log.engaged.schema["row"]),
        )
        counted = self.log.engaged.group_by("user").agg(
            orders_before=(pl.col("kind") == "order").sum(), looks_before=(pl.col("kind") != "order").sum()
        )
        found = (
            with_states(asked, self.log.engaged, self.options)
            .join(counted, on="user", how="left")
            .with_columns(pl.col("orders_before", "looks_before").fill_null(0))
            .sort("place")
        )
        return Standing(
            need=found["need"].cast(pl.Int64).fill_null(-1).to_numpy(),
            stage=found["stage"].cast(pl.Int64).to_numpy(),
            facts=facts(found),
        )


@dataclass(frozen=True, eq=False)
class Standing:
    """U users at a date."""

    need: Ints
    """(U,) category of the active need, -1 for none"""
    stage: Ints
    """(U,) how far it is"""
    facts: Floats
    """(U, 4) see :func:`facts`"""

    def towards(self, category: Ints) -> Ints:
        """(U, I) the state of each user towards items of the categories (I,)."""
        return states_towards(self.need[:, None], self.stage[:, None], category[None, :])


def facts(frame: pl.DataFrame) -> Floats:
    """(N, 4) days idle, length of the run of looks, orders and looks so far."""
    columns = frame.select(
        pl.col("idle_days").fill_null(999.0),
        *(pl.col(name).cast(pl.Float64) for name in ("run_length", "orders_before", "looks_before")),
    )
    return columns.to_numpy()


def best(scores: Floats, ids: list[str], users: list[str], size: int) -> dict[str, list[str]]:
    """The items of the highest scores (U, I) for each user, ties by item id."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :size]
    return {user: [ids[item] for item in row] for user, row in zip(users, order.tolist(), strict=True)}
