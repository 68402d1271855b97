"""Off-policy estimates where the true value is known, because the world was planted.

``shop``: users in the middle of their way are shown one item by the logging policy of a planted shop, which knows a motivation that the
log does not hold. Two other policies are valued from it: ``uniform`` shows anything, ``needs`` shows items of the active need, and
triggers where there is none. The truth is ``do()``: the same users, shown items by that policy, and then everything goes on.

``slate``: slates of ten are drawn by ``rolegen_graphs.exploration``; an item is bought by how good it is and how far down it stands. The slates to be
valued are two that were never shown: the same list without chance, and one with a better item moved up. Their value is a sum.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from rolegen_agent.evidence.states import NONE
from rolegen_agent.value import Value, crossfit, estimate_value, place_probabilities
from rolegen_graphs.exploration import LONGER, drawn
from rolegen_graphs.words import Slate, SlateItem

from ..worlds import WORLDS, Knobs, Shop
from ..worlds.shop import DRAWS, NOBODY, Crowd
from ..worlds.truth import follow

Floats = npt.NDArray[np.float64]
Chances = npt.NDArray[np.float32]
WARM_UP = 6
"""visits before the one that is looked at"""
SIZE = 10
Judged = Mapping[str, tuple[Value, float]]
"""by policy: what was estimated, and the truth"""


def shop_values(world: str, *, users: int, truth_users: int, seed: int) -> Judged:
    """Estimates from ``users`` logged exposures of a planted shop, and the truth from ``truth_users`` others of the same kind."""
    shop = WORLDS[world].open(seed, Knobs())
    random = np.random.default_rng([seed, 11])
    crowd = _in_the_middle(shop, users, random)
    chance = shop.policy(crowd).astype(np.float64)
    shown = _draw(chance, random)
    reward = _orders(shop, crowd, shown, random)
    category, stage = crowd.seen.state(crowd.day, shop.active_days)
    known = np.column_stack([stage, category])
    elsewhere = _in_the_middle(shop, truth_users, np.random.default_rng([seed, 12]))
    found = {}
    for name in ("uniform", "needs"):
        target = _policy(name, shop, crowd)
        weight = target[np.arange(users), shown] / chance[np.arange(users), shown]
        guess, would = _guesses(shop, known, shown, reward, target, random)
        value = estimate_value(
            weight[:, None],
            reward[:, None],
            [str(n) for n in range(users)],
            model_logged=guess[:, None],
            model_target=would[:, None],
            seed=seed,
        )
        dice = np.random.default_rng([seed, 13])
        truth = _orders(shop, elsewhere, _draw(_policy(name, shop, elsewhere), dice), dice).mean()
        found[name] = value, float(truth)
    return found


def slate_values(*, users: int, temperature: float, seed: int) -> Judged:
    """Estimates from slates that were drawn, for slates that were not."""
    random = np.random.default_rng([seed, 14])
    listed = LONGER * SIZE
    worth = np.sort(random.uniform(0.02, 0.3, listed))[::-1] * random.uniform(0.5, 1.5, listed)
    seen = 1 / np.log2(np.arange(SIZE) + 2)
    plain = Slate(
        items=tuple(SlateItem(rank=n + 1, item=f"i{n}", title="", score=1 / (n + 1)) for n in range(listed)),
        entropy=0.0,
    )
    top = plain.model_copy(update={"items": plain.items[:SIZE]})
    best = int(worth[SIZE:].argmax()) + SIZE
    swapped = [*range(SIZE)]
    swapped[2] = best
    targets = {"without_chance": list(range(SIZE)), "better_item": swapped}
    place = np.zeros((users, SIZE), np.int64)
    for n in range(users):
        slate = drawn(top, top, plain, temperature=temperature, key=f"{seed} {n}")
        place[n] = [int(item.item[1:]) for item in slate.items]
        draw = slate.draw
    if draw is None:
        raise RuntimeError("the slates were not drawn")
    table = place_probabilities(draw, SIZE)
    reward = (random.random((users, SIZE)) < worth[place] * seen).astype(np.float64)
    rows = np.repeat(np.arange(users), SIZE)
    facts = np.column_stack([place.ravel(), np.log1p(place.ravel()), np.log1p(np.tile(np.arange(SIZE), users))])
    names = [str(n) for n in rows]
    found = {}
    for name, target in targets.items():
        weight = (place == target) / table[target, np.arange(SIZE)]
        wanted = np.tile(target, users).astype(np.float64)
        asked = np.column_stack([wanted, np.log1p(wanted), facts[:, 2]])
        guess, would = crossfit(facts, reward.ravel(), names, asked, np.arange(len(facts)), seed=seed)
        value = estimate_value(
            weight,
            reward,
            [str(n) for n in range(users)],
            model_logged=guess.reshape(users, SIZE),
            model_target=would.reshape(users, SIZE),
            seed=seed,
        )
        found[name] = value, float((worth[target] * seen).sum())
    return found


def _in_the_middle(shop: Shop, users: int, random: np.random.Generator) -> Crowd:
    crowd = shop.newcomers(users, random)
    for _ in range(WARM_UP):
        uniform = random.random((DRAWS, users))
        shop.step(crowd, shop.show(crowd, uniform)[0], uniform)
        crowd.day = crowd.day + shop.gap(uniform)
    return crowd


def _orders(shop: Shop, crowd: Crowd, shown: npt.NDArray[np.int64], random: np.random.Generator) -> Floats:
    """Whether a net order follows within the horizon of showing ``shown`` now."""
    steps = int(shop.horizon_days / shop.knobs.pace) + 1
    draws = [random.random((DRAWS, len(shown))) for _ in range(steps)]
    return follow(shop, crowd, shown, draws).futures(shop.goods, shown).order.astype(np.float64)


def _policy(name: str, shop: Shop, crowd: Crowd) -> Floats:
    goods = shop.goods
    category, stage = crowd.seen.state(crowd.day, shop.active_days)
    logit = np.zeros((len(stage), len(goods)))
    if name == "needs":
        here = category[:, None] == goods.category
        logit += 2.0 * (here & ~goods.is_a("incidental"))
        logit += 2.0 * ((stage == NONE) & (category == NOBODY))[:, None] * goods.is_a("trigger")
    chance = np.exp(logit)
    found: Floats = chance / chance.sum(axis=1, keepdims=True)
    return found


def _draw(chance: Floats, random: np.random.Generator) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = (chance.cumsum(axis=1) < random.random((len(chance), 1))).sum(axis=1)
    return found.clip(max=chance.shape[1] - 1)


def _guesses(
    shop: Shop,
    known: npt.NDArray[np.int64],
    shown: npt.NDArray[np.int64],
    reward: Floats,
    target: Floats,
    random: np.random.Generator,
) -> tuple[Floats, Floats]:
    """The reward model's guesses, of what was shown and on average over the policy in question (from some draws of it)."""
    users = len(shown)

    def facts(row: npt.NDArray[np.int64], item: npt.NDArray[np.int64]) -> Floats:
        stage, category = known[row, 0], known[row, 1]
        here = shop.goods.category[item] == category
        states = [(stage == state) & here for state in range(5)] + [(stage == state) & ~here for state in range(5)]
        return np.column_stack([item, *states]).astype(np.float64)

    draws = 5
    row = np.tile(np.arange(users), draws)
    item = np.concatenate([_draw(target, random) for _ in range(draws)])
    names = [str(n) for n in range(users)]
    guess, would = crossfit(facts(np.arange(users), shown), reward, names, facts(row, item), row)
    return guess, would.reshape(draws, users).mean(axis=0)
