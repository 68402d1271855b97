"""What every planted shop has in common: the knobs, what is seen of a user, the logging policy, and one step of everybody.

A shop is a structural causal model: the next state of a user is a function of the state, of the item that is shown, and of
uniform random numbers that are drawn beforehand. ``do()`` is then the same function with another item and the same numbers
(Pearl 2009, *Causality*, ch. 7: counterfactuals by fixed exogenous variables).

Users are simulated side by side: every array has one row for each user.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
import numpy.typing as npt

from rolegen_agent.evidence.states import BROWSING, COMPARING, DECIDING, NONE, SATISFIED
from rolegen_graphs.words import Role

from .goods import Floats, Goods, Ints

Flags = npt.NDArray[np.bool_]
ARRIVALS_DAYS = 30.0
DRAWS = 16
"""uniform numbers of a user and step"""
RETARGETS = 1.6
"""log odds by which items of the active need are shown more often"""
NOBODY = -1
"""no item, no category, no role"""


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """How hard a world is."""

    noise: float = 0.1
    """share of looks that mean nothing, and of signals that do not show in the log"""
    hidden: float = 0.4
    """how far the logging policy knows the motivation of users, which the log does not hold"""
    sparsity: float = 0.0
    """share of steps in which nothing is shown"""
    categories: int = 6
    breadth: int = 1
    """times 12 items in each category"""
    days: float = 110.0
    """how long the log is, at pace 1; users come in during the first ``ARRIVALS_DAYS`` and visit it to its end"""
    pace: float = 1.0
    """stretches all times: at 3 a need lasts weeks, as the windows of a real project take it"""


EASY = Knobs(noise=0.0, hidden=0.0)


@dataclass
class Rows:
    """Arrays with one row for each user."""

    def take(self, rows: Ints) -> Self:
        """A copy of some rows; a row may be taken many times."""
        return type(self)(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})

    def joined(self, others: list[Self]) -> Self:
        """These rows, followed by those of others."""
        return type(self)(
            **{one.name: np.concatenate([getattr(rows, one.name) for rows in (self, *others)]) for one in fields(self)}
        )


@dataclass
class Seen(Rows):
    """What the log shows of the users so far: the present run of looks in one category.

    These are the intent states of ``rolegen_agent.evidence.states``, kept step by step; a test compares the two.
    """

    category: Ints
    stage: Ints
    day: Floats
    """of the last engagement"""
    first: Ints
    """first item of the run"""
    several: Flags
    """the run holds more than one item"""
    carted: Flags

    @classmethod
    def nothing(cls, users: int) -> Seen:
        none = np.full(users, NOBODY)
        return cls(none, np.zeros(users, np.int64), np.full(users, -1e9), none.copy(), *np.zeros((2, users), bool))

    def state(self, day: Floats, active_days: float) -> tuple[Ints, Ints]:
        """Category and stage of the active need of each user; -1 and ``NONE`` where there is none."""
        active = day - self.day <= active_days
        return np.where(active, self.category, NOBODY), np.where(active, self.stage, NONE)

    def engage(self, who: Flags, item: Ints, category: Ints, kind: str, day: Floats, active_days: float) -> None:
        """Note a view, cart or order of ``item`` by the users in ``who``."""
        goes_on = (self.category == category) & (day - self.day <= active_days) & (self.stage != SATISFIED)
        fresh = who & ~goes_on
        self.first = np.where(fresh, item, self.first)
        self.several = np.where(fresh, False, self.several | (who & (item != self.first)))
        self.carted = np.where(fresh, False, self.carted) | (who & (kind == "cart"))
        stage = np.where(self.carted, DECIDING, np.where(self.several, COMPARING, BROWSING))
        self.stage = np.where(who, SATISFIED if kind == "order" else stage, self.stage)
        self.category = np.where(who, category, self.category)
        self.day = np.where(who, day, self.day)


@dataclass
class Happened:
    """What one step brought, by user; -1 where nothing happened. Roles are what the item really did there and then."""

    rebuy: Ints
    """item ordered out of habit, before anything is shown"""
    organic: Ints
    """item looked up without being shown"""
    organic_role: Ints
    viewed: Flags
    """looked at what was shown"""
    view_role: Ints
    cart: Ints
    order: Ints
    order_role: Ints
    refunded: Flags
    """the order is given back later"""


@dataclass
class Mind(Rows, ABC):
    """The hidden state of users."""

    motivation: Floats
    """(N,) standard normal; raises orders, and with ``hidden`` the logging policy knows it"""

    @abstractmethod
    def told(self) -> dict[str, Ints]:
        """``need`` (category, -1 for none), ``stage`` and ``habit`` (item, -1 for none): what a perfect reasoner would know."""


@dataclass
class Crowd:
    """Users between two steps."""

    mind: Mind
    seen: Seen
    day: Floats

    def take(self, rows: Ints) -> Crowd:
        return Crowd(self.mind.take(rows), self.seen.take(rows), self.day[rows])

    def joined(self, others: list[Crowd]) -> Crowd:
        return Crowd(
            self.mind.joined([one.mind for one in others]),
            self.seen.joined([one.seen for one in others]),
            np.concatenate([self.day, *(one.day for one in others)]),
        )


@dataclass(frozen=True, eq=False)
class Shop(ABC):
    """A world: its goods, its knobs and its mechanisms."""

    goods: Goods
    knobs: Knobs
    quality: Floats = field(default_factory=lambda: np.zeros(0))
    """(I,) what the shop believes to be worth showing to motivated users"""

    @property
    def active_days(self) -> float:
        """A need shows so long after the last engagement; visits lie whole days apart, so minutes never decide."""
        return 10.5 * self.knobs.pace

    @property
    def horizon_days(self) -> float:
        """So long what follows an exposure is counted."""
        return 14.0 * self.knobs.pace

    @property
    def days(self) -> float:
        """Length of the log."""
        return self.knobs.days * self.knobs.pace

    @classmethod
    def open(cls, seed: int, knobs: Knobs | None = None) -> Self:
        """The shop of a seed."""
        chosen = knobs or Knobs()
        random = np.random.default_rng([seed, 1])
        goods = Goods.draw(chosen.categories, chosen.breadth, chosen.pace, random)
        return cls(goods, chosen, quality=random.normal(0, 1, len(goods)))

    @abstractmethod
    def minds(self, users: int, random: np.random.Generator) -> Mind:
        """Users as they come in."""

    @abstractmethod
    def act(self, mind: Mind, day: Floats, shown: Ints, uniform: Floats) -> Happened:
        """One visit: change ``mind`` in place and say what happened.

        Args:
            shown: (N,) item shown, -1 for none.
            uniform: (DRAWS, N) in [0, 1).
        """

    def newcomers(self, users: int, random: np.random.Generator) -> Crowd:
        """Users before their first visit, which come in spread over ``ARRIVALS_DAYS``."""
        return Crowd(
            self.minds(users, random), Seen.nothing(users), random.uniform(0, ARRIVALS_DAYS * self.knobs.pace, users)
        )

    def policy(self, crowd: Crowd) -> npt.NDArray[np.float32]:
        """(N, I) probability that each item is shown: eye-catchers to those about to buy, triggers to nobody in need.

        This is what makes a log mislead: who sees an eye-catcher buys anyway, who sees a trigger was far from buying.
        """
        goods, (category, stage) = self.goods, crowd.seen.state(crowd.day, self.active_days)
        here = category[:, None] == goods.category
        hot = np.isin(stage, (COMPARING, DECIDING))[:, None]
        bait, start = goods.is_a("incidental"), goods.is_a("trigger")
        logit = RETARGETS * here + 0.7 * (hot & bait) + 1.0 * ((stage == NONE)[:, None] & start)
        known = np.outer(self.knobs.hidden * crowd.mind.motivation, self.quality)
        chance: npt.NDArray[np.float32] = np.exp((logit + known).astype(np.float32))
        chance /= chance.sum(axis=1, keepdims=True)
        return chance

    def show(self, crowd: Crowd, uniform: Floats) -> tuple[Ints, Floats]:
        """Draw the items shown by the policy: item (N,) and its probability; -1 where nothing is shown."""
        chance = self.policy(crowd)
        item = (chance.cumsum(axis=1) < uniform[0][:, None]).sum(axis=1).clip(max=len(self.goods) - 1)
        quiet = uniform[1] < self.knobs.sparsity
        told = chance[np.arange(len(item)), item] * (1 - self.knobs.sparsity)
        return np.where(quiet, NOBODY, item), np.where(quiet, 1.0, told.astype(np.float64))

    def step(self, crowd: Crowd, shown: Ints, uniform: Floats) -> Happened:
        """Everybody's next visit, with ``shown`` on the page; changes ``crowd`` in place."""
        happened = self.act(crowd.mind, crowd.day, shown, uniform)
        for kind, item in self.trail(shown, happened):
            crowd.seen.engage(item >= 0, item, self.goods.category[item], kind, crowd.day, self.active_days)
        return happened

    def trail(self, shown: Ints, happened: Happened) -> list[tuple[str, Ints]]:
        """The engagements of a visit in the order in which they stand in the log, each (N,) with -1 for nobody."""
        return [
            ("order", happened.rebuy),
            ("view", happened.organic),
            ("view", np.where(happened.viewed, shown, NOBODY)),
            ("cart", happened.cart),
            ("order", happened.order),
        ]

    def gap(self, uniform: Floats) -> Floats:
        """Days to the next visit."""
        days: Floats = self.knobs.pace * (1.0 + np.floor(3 * uniform[2]))
        return days

    def some(self, pool: Flags, category: Ints, uniform: Floats) -> Ints:
        """For each user one item of ``pool`` (I,) in the category (N,); -1 where the category is -1."""
        found = np.full(len(category), NOBODY)
        for c in range(len(self.goods.categories)):
            members = np.flatnonzero(pool & (self.goods.category == c))
            who = category == c
            found[who] = members[(uniform[who] * len(members)).astype(np.int64)]
        return found

    def does(self, shown: Ints, viewed: Flags, role: Role) -> Flags:
        """Who looked at an item of this disposition."""
        return viewed & self.goods.is_a(role)[shown]
