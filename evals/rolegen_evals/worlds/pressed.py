"""Another world, on which nothing was ever tuned: wants press harder or less hard, and one grows sure of a purchase by degrees.

There are no stages: each category has a want that fades, and a user is more or less sure. Dispositions add to the one or the other.

=============  =======================================================================================================
trigger        nothing pressing: its category's want rises; otherwise what presses gives way a little
bridge         part of the want of its category goes over to another one, and one is surer of that
anchor         unsure: the rest looks cheap; sure: doubts
comparison     unsure: surer; sure: doubts
target         bought, the likelier the surer one is and the harder the want presses; unsure: the want shrinks from it
complement, gateway, replenishment  as in the other world
incidental     looked at most of all, and moves nothing
=============  =======================================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rolegen_agent.evidence.states import BROWSING, COMPARING, DECIDING, NONE
from rolegen_graphs.words import Role

from .goods import CODE, Floats, Ints
from .shop import NOBODY, Flags, Happened, Mind, Shop

FADES, RISES, PRESSES, SURE = 0.93, 0.06, 0.5, 0.65
"""a want shrinks by this each step; chance that one rises by itself; from here on it shows; and one decides"""
BUYS, FRESH, REFUNDS = 0.3, 4, 0.04


@dataclass
class PressedMind(Mind):
    """``want`` is (N, categories), ``sure`` in [0, 1], ``cheap`` how cheap things look."""

    want: Floats
    sure: Floats
    cheap: Floats
    bought: Ints
    since: Ints
    orders: Ints
    trust: Flags
    habit: Ints
    due: Floats

    @property
    def need(self) -> Ints:
        """Category of the want that presses most, -1 where none does."""
        return np.where(self.want.max(axis=1) > PRESSES, self.want.argmax(axis=1), NOBODY)

    def told(self) -> dict[str, Ints]:
        stage = np.where(self.sure > SURE, DECIDING, np.where(self.sure > SURE / 2, COMPARING, BROWSING))
        return {"need": self.need, "stage": np.where(self.need >= 0, stage, NONE), "habit": self.habit.copy()}


class PressedShop(Shop):
    """See the module."""

    def minds(self, users: int, random: np.random.Generator) -> PressedMind:
        return PressedMind(
            motivation=random.normal(0, 1, users),
            want=np.zeros((users, len(self.goods.categories))),
            sure=np.full(users, 0.1),
            cheap=np.zeros(users),
            bought=np.full(users, NOBODY),
            since=np.full(users, 99),
            orders=np.zeros(users, np.int64),
            trust=np.zeros(users, bool),
            habit=np.full(users, NOBODY),
            due=np.full(users, np.inf),
        )

    def act(self, mind: Mind, day: Floats, shown: Ints, uniform: Floats) -> Happened:
        assert isinstance(mind, PressedMind)
        goods, u, everyone = self.goods, uniform[3:], np.arange(len(day))
        eager = np.exp(0.5 * mind.motivation) * np.where(mind.trust, 1.5, 1.0)
        rebuy = np.where(mind.due <= day, mind.habit, NOBODY)
        mind.due = np.where(rebuy >= 0, day + goods.interval[rebuy], mind.due)
        self._paid(mind, rebuy)

        mind.want *= FADES
        rises = u[0] < RISES
        mind.want[everyone, (u[1] * len(goods.categories)).astype(np.int64)] += rises
        need = mind.need
        pressing = np.where(need >= 0, mind.want[everyone, need], 0.0)
        looks_up = (need >= 0) & (u[2] < 0.5 * np.minimum(pressing, 1)) & (u[9] >= self.knobs.noise)
        plain = goods.is_a("target") | goods.is_a("comparison")
        organic = np.where(looks_up, self.some(plain, need, u[3]), NOBODY)
        mind.sure = np.where(looks_up, np.minimum(mind.sure + 0.1, 1), mind.sure)

        item = np.maximum(shown, 0)
        match = 2.2 * np.minimum(mind.want[everyone, goods.category[item]], 1)
        viewed = (shown >= 0) & (u[4] < 1 / (1 + np.exp(1.6 - goods.click[item] - match)))
        viewed |= (shown >= 0) & (u[6] < 0.2 * self.knobs.noise)
        order, order_role, view_role = self._felt(mind, item, viewed, eager, u)

        need = mind.need
        decides = (need >= 0) & (mind.sure > SURE)
        chosen = self.some(goods.is_a("target"), need, u[8])
        by_itself = (order < 0) & decides & (u[10] < BUYS * eager * (1 + mind.cheap))
        order = np.where(by_itself, chosen, order)
        order_role = np.where(by_itself, CODE["target"], order_role)
        cart = np.where(decides & (order < 0) & (u[7] < 0.6) & (u[9] >= self.knobs.noise), chosen, NOBODY)
        mind.since = mind.since + 1
        self._paid(mind, order)
        met = order >= 0
        mind.want[everyone[met], goods.category[order[met]]] = 0.0
        mind.sure, mind.cheap = np.where(met, 0.1, mind.sure), np.where(met, 0.0, mind.cheap)
        starts = met & (goods.role[order] == CODE["replenishment"]) & (mind.habit < 0)
        mind.habit = np.where(starts, order, mind.habit)
        mind.due = np.where(starts, day + goods.interval[order], mind.due)
        return Happened(
            rebuy=rebuy,
            organic=organic,
            organic_role=np.where(organic >= 0, CODE["comparison"], NOBODY),
            viewed=viewed,
            view_role=np.where(viewed, view_role, NOBODY),
            cart=cart,
            order=order,
            order_role=np.where(order >= 0, order_role, NOBODY),
            refunded=met & (u[11] < REFUNDS),
        )

    def _felt(self, mind: PressedMind, item: Ints, viewed: Flags, eager: Floats, u: Floats) -> tuple[Ints, Ints, Ints]:
        """What looking at the shown item does: the item ordered, the role of that order, the role of the look."""
        goods, everyone = self.goods, np.arange(len(item))
        category, strength, draw = goods.category[item], goods.strength[item], u[5]
        before, unsure = mind.need.copy(), mind.sure <= SURE
        here = (before == category) & (before >= 0)
        role = np.full(len(item), CODE["incidental"])

        def press(who: Flags, where: Ints, how: Floats) -> None:
            mind.want[everyone[who], where[who]] = np.clip(mind.want[everyone[who], where[who]] + how[who], 0, 2)

        trigger = self.does(item, viewed, "trigger")
        press(trigger & (before < 0), category, 1.2 * strength)
        press(trigger & (before >= 0) & ~here, before, -0.4 * strength)
        press(viewed & ~self.does(item, viewed, "incidental") & ~trigger, category, 0.5 * goods.pull[item])
        role[viewed & (before < 0) & (mind.need == category)] = CODE["trigger"]

        bridge = self.does(item, viewed, "bridge") & here
        part = strength * mind.want[everyone, category]
        press(bridge, category, -part)
        press(bridge, goods.leads_to[item], part + 0.2)
        mind.sure = np.where(bridge & unsure, np.minimum(mind.sure + 0.3 * strength, 1), mind.sure)
        role[bridge & (mind.need == goods.leads_to[item])] = CODE["bridge"]

        steps: tuple[tuple[Role, float, float], ...] = (("anchor", 0.25, 0.3), ("comparison", 0.35, 0.25))
        for name, rise, doubt in steps:
            looks = self.does(item, viewed, name) & here
            mind.sure = np.where(looks & unsure, np.minimum(mind.sure + rise * strength, 1), mind.sure)
            mind.sure = np.where(looks & ~unsure, mind.sure - doubt * strength, mind.sure)
            if name == "anchor":
                mind.cheap = np.where(looks & unsure, 0.5, mind.cheap)
                looks = looks & unsure
            role[looks] = CODE[name]

        target = self.does(item, viewed, "target") | self.does(item, viewed, "replenishment")
        chance = strength * eager * np.minimum(mind.want[everyone, category], 1) / (1 + np.exp(-8 * (mind.sure - SURE)))
        buys = target & here & (draw < chance)
        press(target & here & ~buys & (mind.sure < SURE / 2), category, -0.4 * strength)
        role[target & here & ~buys & (mind.sure >= SURE / 2)] = CODE["comparison"]
        also = (
            self.does(item, viewed, "complement")
            & (mind.bought >= 0)
            & (goods.completes[item] == mind.bought)
            & (mind.since <= FRESH)
            & (draw < strength)
        )
        opens = self.does(item, viewed, "gateway") & (mind.orders == 0) & (draw < strength / 3)
        mind.trust |= opens
        order, order_role = np.full(len(item), NOBODY), np.full(len(item), CODE["target"])
        bought: tuple[tuple[Flags, Role], ...] = ((buys, "target"), (also, "complement"), (opens, "gateway"))
        for who, what in bought:
            order = np.where(who, item, order)
            order_role = np.where(who, CODE[what], order_role)
            role[who] = CODE[what]
        return order, order_role, role

    def _paid(self, mind: PressedMind, item: Ints) -> None:
        bought = item >= 0
        mind.bought = np.where(bought, self.goods.category[item], mind.bought)
        mind.since = np.where(bought, 0, mind.since)
        mind.orders = mind.orders + bought
