"""The world on which everything is developed: needs move through stages, and each disposition moves them at its own stage.

=============  ======================================================================================================
trigger        no need: one begins in its category. About to buy elsewhere: distracts, the need moves here and begins anew
bridge         a need in its category, not yet deciding: it moves to another category, near to a purchase. Deciding: it is lost there
anchor         browsing or comparing: makes the others look cheap, a step further. Deciding: sticker shock, the need may die
comparison     browsing or comparing: a step further. Deciding: a step back
target         deciding: bought. Browsing: too early, the need may die
complement     right after a purchase in the category that it goes with: bought too
gateway        before the first order: bought without any need; whoever has it buys more readily afterwards
replenishment  bought in the way of a target; from then on again and again, without being shown
incidental     looked at most of all, and moves nothing
=============  ======================================================================================================

All but the incidental have a pull beside their disposition: who looks at them may begin a need, stray to it, go on or get bored. So
effects are graded, and an item may do what another is there for: the role of a look is what it did then and there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rolegen_agent.evidence.states import BROWSING, COMPARING, DECIDING, NONE
from rolegen_graphs.words import Role

from .goods import CODE, Floats, Ints
from .shop import NOBODY, Flags, Happened, Mind, Shop

BEGINS, DIES, GOES_ON, BUYS = 0.06, 0.05, 0.35, 0.35
"""chance of a step without anybody's doing: a need begins, dies, goes a step further, somebody who is deciding buys"""
LOOKS_UP = 0.5
"""chance that somebody with a need looks up something of it"""
COLD, MATCH = 1.1, 2.2
"""log odds against a look at anything, and for one at what is needed"""
TEMPTS, STRAYS, HELPS = 1.0, 0.9, 0.6
"""what the pull of an item does: begins a need where there is none, draws one away, helps it or bores"""
FRESH = 4
"""steps after a purchase in which its complements sell"""
TRUST = 0.5
REFUNDS = 0.04


@dataclass
class StagedMind(Mind):
    """``need`` is a category or -1, ``stage`` how far it is."""

    need: Ints
    stage: Ints
    anchored: Flags
    bought: Ints
    """category of the last purchase, -1 for none"""
    since: Ints
    """steps since then"""
    orders: Ints
    trust: Flags
    habit: Ints
    """item bought regularly, -1 for none"""
    due: Floats
    """day on which it is bought again"""

    def told(self) -> dict[str, Ints]:
        return {
            "need": self.need.copy(),
            "stage": np.where(self.need >= 0, self.stage, NONE),
            "habit": self.habit.copy(),
        }


class StagedShop(Shop):
    """See the module."""

    def minds(self, users: int, random: np.random.Generator) -> StagedMind:
        none = np.full(users, NOBODY)
        return StagedMind(
            motivation=random.normal(0, 1, users),
            need=none.copy(),
            stage=np.zeros(users, np.int64),
            anchored=np.zeros(users, bool),
            bought=none.copy(),
            since=np.full(users, 99),
            orders=np.zeros(users, np.int64),
            trust=np.zeros(users, bool),
            habit=none.copy(),
            due=np.full(users, np.inf),
        )

    def act(self, mind: Mind, day: Floats, shown: Ints, uniform: Floats) -> Happened:
        assert isinstance(mind, StagedMind)
        goods, u, users = self.goods, uniform[3:], len(day)
        none = np.full(users, NOBODY)
        eager = np.exp(0.5 * mind.motivation) * np.where(mind.trust, 1 + TRUST, 1.0)

        rebuy = np.where(mind.due <= day, mind.habit, NOBODY)
        mind.due = np.where(rebuy >= 0, day + goods.interval[rebuy], mind.due)
        self._bought(mind, rebuy, ends=False)

        dies = (mind.need >= 0) & (u[0] < DIES)
        mind.need = np.where(dies, NOBODY, mind.need)
        begins = (mind.need < 0) & (u[0] > 1 - BEGINS)
        mind.need = np.where(begins, (u[1] * len(goods.categories)).astype(np.int64), mind.need)
        mind.stage = np.where(begins, BROWSING, mind.stage)
        mind.anchored &= ~begins

        plain = goods.is_a("target") | goods.is_a("comparison")
        looks_up = begins | ((mind.need >= 0) & (u[2] < LOOKS_UP) & (u[9] >= self.knobs.noise))
        goes_on = looks_up & ~begins & (u[12] < GOES_ON)
        mind.stage = np.where(goes_on, np.minimum(mind.stage + 1, DECIDING), mind.stage)
        organic = np.where(looks_up, self.some(plain, mind.need, u[3]), NOBODY)
        organic_role = np.where(begins | (organic < 0), NOBODY, CODE["comparison"])  # the first look: nobody's doing

        item = np.maximum(shown, 0)
        match = np.where(goods.category[item] == mind.need, MATCH, 0.0)
        viewed = (shown >= 0) & (u[4] < 1 / (1 + np.exp(COLD - goods.click[item] - match)))
        viewed |= (shown >= 0) & (u[6] < 0.2 * self.knobs.noise)
        order, order_role, view_role = self._moved(mind, item, viewed, eager, u)

        decides = (mind.need >= 0) & (mind.stage == DECIDING)
        cart = np.where(
            decides & (u[7] < 0.6) & (u[9] >= self.knobs.noise),
            self.some(goods.is_a("target"), mind.need, u[8]),
            NOBODY,
        )
        by_itself = (order < 0) & decides & (u[10] < BUYS * eager)
        order = np.where(by_itself, self.some(goods.is_a("target"), mind.need, u[8]), order)
        order_role = np.where(by_itself, CODE["target"], order_role)
        cart = np.where(order >= 0, NOBODY, cart)
        mind.since = mind.since + 1
        self._bought(mind, order, ends=True)
        starts = (order >= 0) & (goods.role[order] == CODE["replenishment"]) & (mind.habit < 0)
        mind.habit = np.where(starts, order, mind.habit)
        mind.due = np.where(starts, day + goods.interval[order], mind.due)
        return Happened(
            rebuy=rebuy,
            organic=organic,
            organic_role=organic_role,
            viewed=viewed,
            view_role=np.where(viewed, view_role, none),
            cart=cart,
            order=order,
            order_role=np.where(order >= 0, order_role, NOBODY),
            refunded=(order >= 0) & (u[11] < REFUNDS),
        )

    def _moved(self, mind: StagedMind, item: Ints, viewed: Flags, eager: Floats, u: Floats) -> tuple[Ints, Ints, Ints]:
        """What looking at the shown item does: the item ordered, the role of that order, the role of the look."""
        goods = self.goods
        category, draw = goods.category[item], u[5]
        works, half = viewed & (draw < goods.strength[item]), viewed & (draw < goods.strength[item] / 2)
        here = (mind.need == category) & (mind.need >= 0)
        early, deciding = here & (mind.stage < DECIDING), here & (mind.stage == DECIDING)
        role = np.full(len(item), CODE["incidental"])
        order = np.full(len(item), NOBODY)
        order_role = np.full(len(item), CODE["target"])
        before, stage_before = mind.need.copy(), mind.stage.copy()

        def note(who: Flags, name: Role) -> None:
            role[who] = CODE[name]

        trigger = self.does(item, viewed, "trigger")
        starts = trigger & works & (before < 0)
        distracts = trigger & half & (before >= 0) & (before != category) & (stage_before == DECIDING)
        mind.need = np.where(starts | distracts, category, mind.need)
        mind.stage = np.where(starts | distracts, BROWSING, mind.stage)
        mind.anchored &= ~(starts | distracts)
        note(starts, "trigger")

        inert = goods.is_a("incidental")[item]
        tempts = viewed & ~inert & ~starts & (before < 0) & (draw < TEMPTS * goods.pull[item])
        strays = (
            viewed & ~inert & ~distracts & (before >= 0) & (before != category) & (draw < STRAYS * goods.pull[item])
        )
        mind.need = np.where(tempts | strays, category, mind.need)
        mind.stage = np.where(tempts | strays, BROWSING, mind.stage)
        mind.anchored &= ~(tempts | strays)
        note(tempts, "trigger")
        likes = viewed & ~inert & early & (draw > 1 - HELPS * goods.pull[item])
        bores = viewed & ~inert & early & (draw > 1 - HELPS * np.maximum(-2 * goods.pull[item] - 1, 0))

        bridge = self.does(item, viewed, "bridge")
        leads, loses = bridge & works & early, bridge & half & deciding
        mind.need = np.where(leads | loses, goods.leads_to[item], mind.need)
        mind.stage = np.where(leads, DECIDING, np.where(loses, BROWSING, mind.stage))
        note(leads, "bridge")

        anchor = self.does(item, viewed, "anchor")
        sets, shocks = anchor & works & early, anchor & half & deciding
        mind.anchored |= sets
        mind.need = np.where(shocks, NOBODY, mind.need)
        note(sets, "anchor")

        comparison = self.does(item, viewed, "comparison")
        further, back = comparison & works & early, comparison & half & deciding
        mind.stage = np.where(
            further | sets | (likes & ~leads),
            np.minimum(mind.stage + 1, DECIDING),
            np.where(back, COMPARING, mind.stage),
        )
        mind.need = np.where(bores & ~leads, NOBODY, mind.need)
        note((comparison & here) | (likes & ~leads & ~sets), "comparison")

        target = self.does(item, viewed, "target") | self.does(item, viewed, "replenishment")
        liking = goods.strength[item] * np.where(mind.anchored, 1.4, 1.0) * eager
        buys = target & deciding & (draw < liking)
        too_early = target & half & here & (stage_before == BROWSING)
        mind.need = np.where(too_early, NOBODY, mind.need)
        note(target & here & (stage_before == COMPARING), "comparison")

        complement = self.does(item, viewed, "complement")
        also = complement & works & (mind.bought >= 0) & (goods.completes[item] == mind.bought) & (mind.since <= FRESH)
        gateway = self.does(item, viewed, "gateway")
        opens = gateway & (draw < goods.strength[item] / 3) & (mind.orders == 0)
        mind.trust |= opens
        bought: tuple[tuple[Flags, Role], ...] = ((buys, "target"), (also, "complement"), (opens, "gateway"))
        for who, name in bought:
            order = np.where(who, item, order)
            order_role = np.where(who, CODE[name], order_role)
            note(who, name)
        return order, order_role, role

    def _bought(self, mind: StagedMind, item: Ints, *, ends: bool) -> None:
        """An order; ``ends``: it satisfies the need of its category."""
        bought = item >= 0
        category = self.goods.category[item]
        mind.bought = np.where(bought, category, mind.bought)
        mind.since = np.where(bought, 0, mind.since)
        mind.orders = mind.orders + bought
        if ends:
            met = bought & (mind.need == category)
            mind.need = np.where(met, NOBODY, mind.need)
            mind.stage = np.where(met, NONE, mind.stage)
            mind.anchored &= ~met
