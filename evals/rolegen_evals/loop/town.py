"""A planted shop that goes on living while somebody decides what dormant users are shown.

*Browsing.* A dormant user who was decided on is shown one item at each visit within the horizon: that at a place of the slate that is drawn with
the usual weights of attention, ``1 / log2(1 + place)``. An empty place, and everybody else, gets what the logging policy chooses, as ever. The
exposure and its propensity go into the log, so what a policy did is what it can learn from. When users visit does not depend on what they see.

*The same luck for all.* The uniform numbers of a user's n-th visit, the place looked at among them, are drawn from the seed alone: two policies that
show the same items live through the same log, and what differs is what they did (Pearl 2009, ch. 7).

*Two groups.* ``treated`` users get slates as soon as they are dormant. The ``control`` group lives under the logging policy to the end, so
its log, its states and who of it is dormant are the same whatever the policy. A policy is judged on these: what it would show them is replayed in
``REPLAYS`` futures from their true states, the same futures for all policies, and never enters the log. Among the treated, dormancy is an outcome
of the policy: a better one leaves other, harder people dormant, so their rates are no comparison. What is comparable of them is all net orders of
all of them since the first round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from ..worlds import Shop
from ..worlds.goods import Floats, Ints
from ..worlds.log import COLUMNS, START, dated, visit
from ..worlds.shop import DRAWS, NOBODY, Crowd

SIZE = 10
"""items of a slate"""
REPLAYS = 16
PLACES: Floats = (1 / np.log2(2 + np.arange(SIZE))) / (1 / np.log2(2 + np.arange(SIZE))).sum()
"""(SIZE,) chance that the item at each place is the one that is looked at"""


def moment_of(day: float) -> datetime:
    """The time at which a day of the town begins."""
    return START + timedelta(days=day)


def number_of(users: Sequence[str]) -> Ints:
    """Numbers of users from their ids in the events."""
    return np.array([int(user[1:]) for user in users], np.int64)


@dataclass(eq=False)
class Town:
    """N users between two visits each, and all that has happened so far."""

    shop: Shop
    seed: int
    control: npt.NDArray[np.bool_]
    """(N,) who is never treated"""
    crowd: Crowd
    day: float = 0.0
    step: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """(N,) number of the next visit"""
    parts: list[pl.DataFrame] = field(default_factory=list)
    draws: list[Floats] = field(default_factory=list)
    """(DRAWS + 1, N) of each visit number"""

    @classmethod
    def open(cls, shop: Shop, *, treated: int, control: int, seed: int) -> Town:
        """People before their first visit."""
        users = treated + control
        crowd = shop.newcomers(users, np.random.default_rng([seed, 11]))
        return cls(shop, seed, np.arange(users) >= treated, crowd, step=np.zeros(users, np.int64))

    def copy(self) -> Town:
        """The same town, from here on with a life of its own."""
        everybody = np.arange(len(self.step))
        return Town(
            self.shop,
            self.seed,
            self.control,
            self.crowd.take(everybody),
            self.day,
            self.step.copy(),
            list(self.parts),
            self.draws,  # drawn from the seed: to be shared
        )

    @property
    def at(self) -> datetime:
        """The present; everything before it has happened."""
        return moment_of(self.day)

    def events(self) -> pl.DataFrame:
        """The log so far, as the product ingests it: strictly before the present."""
        return dated(self.shop, self.parts).filter(pl.col("time") < self.at).select(COLUMNS)

    def live(self, until: float, slates: Mapping[str, Sequence[str]] | None = None, *, horizon: float = 0.0) -> None:
        """Go on to the day ``until``; whoever has a slate is shown it for ``horizon`` days from now on.

        Args:
            slates: user -> at most ``SIZE`` item ids, best first.
        """
        slate = self._coded(slates or {})
        decided = slate[:, 0] >= 0
        last = self.day + horizon
        while len(who := np.flatnonzero(self.crowd.day < until)):
            uniform = self._drawn(who)
            part = self.crowd.take(who)
            shown, chance = self.shop.show(part, uniform[:DRAWS])
            ours = decided[who] & (part.day < last)
            item, told = look(slate[who], uniform[DRAWS])
            shown, chance = (
                np.where(ours & (item >= 0), item, shown),
                np.where(ours, told * np.where(item >= 0, 1.0, chance), chance),
            )
            self.parts += visit(self.shop, part, who, self.step[who], shown, chance, uniform[:DRAWS])
            part.day = part.day + self.shop.gap(uniform)
            _put(self.crowd, who, part)
            self.step[who] += 1
        self.day = until

    def replay(self, slates: Mapping[str, Sequence[str]] | None, users: Sequence[str], horizon: float) -> Floats:
        """What ``slates`` would bring: net orders of each user within the horizon, mean of ``REPLAYS`` futures. Changes nothing.

        Args:
            slates: None lets the logging policy go on.

        Returns:
            (U,) in the order of ``users``.
        """
        who = number_of(users)
        slate = self._coded(slates or {})[who]
        rows = np.tile(np.arange(len(who)), REPLAYS)
        crowd, slate = self.crowd.take(who[rows]), slate[rows]
        orders, last, number = np.zeros(len(rows)), self.day + horizon, 0
        while len(left := np.flatnonzero(crowd.day < last)):
            # By day and user alone: the same futures for every policy, whoever else is asked about.
            random = np.random.default_rng([self.seed, 13, round(self.day), number])
            uniform = random.random((REPLAYS, DRAWS + 1, len(self.step)))
            uniform = uniform[np.repeat(np.arange(REPLAYS), len(who)), :, np.tile(who, REPLAYS)].T[:, left]
            part = crowd.take(left)
            ours = look(slate[left], uniform[DRAWS])[0]
            shown = np.where(ours >= 0, ours, self.shop.show(part, uniform[:DRAWS])[0])
            happened = self.shop.step(part, shown, uniform[:DRAWS])
            orders[left] += (happened.rebuy >= 0).astype(float) + ((happened.order >= 0) & ~happened.refunded)
            part.day = part.day + self.shop.gap(uniform)
            _put(crowd, left, part)
            number += 1
        found: Floats = orders.reshape(REPLAYS, len(who)).mean(axis=0)
        return found

    def orders(self, since: float) -> float:
        """Net orders of the treated from the day ``since`` on, for 1,000 of them; days on which nothing was kept count none."""
        treated = int((~self.control).sum())
        rows = pl.concat(self.parts).filter(pl.col("day") >= since, pl.col("user") < treated, pl.col("day") < self.day)
        bought = rows.filter(pl.col("behaviour") == "order").height
        return 1000 * (bought - rows.filter(pl.col("behaviour") == "refund").height) / treated

    def _coded(self, slates: Mapping[str, Sequence[str]]) -> Ints:
        """(N, SIZE) item codes, -1 where there is none."""
        code = {item: place for place, item in enumerate(self.shop.goods.ids)}
        found = np.full((len(self.step), SIZE), NOBODY)
        for user, items in slates.items():
            chosen = [code[item] for item in items[:SIZE]]
            found[int(user[1:]), : len(chosen)] = chosen
        return found

    def _drawn(self, who: Ints) -> Floats:
        """(DRAWS + 1, len(who)) uniform numbers of the next visits."""
        for number in range(len(self.draws), int(self.step[who].max()) + 1):
            self.draws.append(np.random.default_rng([self.seed, 12, number]).random((DRAWS + 1, len(self.step))))
        found = np.empty((DRAWS + 1, len(who)))
        for number in np.unique(self.step[who]).tolist():
            those = self.step[who] == number
            found[:, those] = self.draws[number][:, who[those]]
        return found


def look(slate: Ints, uniform: Floats) -> tuple[Ints, Floats]:
    """The item of each slate (N, SIZE) at the place that is looked at, -1 where that place is empty, and the probability of the place."""
    place = np.minimum(np.searchsorted(PLACES.cumsum(), uniform, side="right"), SIZE - 1)
    return slate[np.arange(len(slate)), place], PLACES[place]


def _put(crowd: Crowd, rows: Ints, part: Crowd) -> None:
    """Write ``part`` back into ``rows`` of ``crowd``."""
    for whole, some in ((crowd.mind, part.mind), (crowd.seen, part.seen)):
        for name, values in vars(some).items():
            getattr(whole, name)[rows] = values
    crowd.day[rows] = part.day
