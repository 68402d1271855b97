"""The rules of a :class:`~rolegen_graphs.ports.Recommender`."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from ..ports import Recommender
from ..words import Candidate, Effect, ItemSpec, Slate
from .rules import Rules

WISH = ItemSpec(role="complement", text="anything")
CLOSE = 1e-6
THREADS = 4


def check_recommender(
    recommender: Recommender, *, users: Sequence[str], at: datetime, items: Collection[str], size: int = 10
) -> None:
    """Hold a recommender against its rules, with real users and items of yours.

    Slates:

    - With and without candidates there are 1 to ``size`` items, ranks count from 1, no item stands twice.
    - Every item exists, also when a candidate names one that does not, or none.
    - Scores are finite numbers.
    - The same question has the same answer, from several threads too: decisions run side by side.

    Rollouts:

    - One effect for each path, in order; none for none.
    - Probabilities lie in [0, 1], the change is their difference and lies in its interval.

    Args:
        items: ids of everything that may be shown at ``at``.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    some = sorted(items)[:3]
    real = [_candidate(number, item) for number, item in enumerate(some)]
    odd = [*real, _candidate(8, "no item of this id"), _candidate(9, None)]
    with Rules(recommender) as rules:
        first: dict[str, Slate] = {}
        for user in users:
            for candidates in ((), real, odd):
                told = f"a slate for user {user!r} with {len(candidates)} candidates"
                slate = rules.ask(told, recommender.slate, user, at, candidates, size)
                if slate is None:
                    continue
                _slate(rules, slate, items, size)
                again = rules.ask("twice", recommender.slate, user, at, candidates, size)
                rules.hold("the same question has the same slate", again == slate)
                if not candidates:
                    first[user] = slate
            paths = [(3, some[:1]), (1, some[1:])]
            effects = rules.ask("a rollout", recommender.rollout, user, at, paths)
            if effects is not None:
                _effects(rules, effects, [number for number, _ in paths])
            none = rules.ask("a rollout of nothing", recommender.rollout, user, at, ())
            rules.hold("no path, no effect", none is None or len(none) == 0)
        with ThreadPoolExecutor(THREADS) as pool:
            asked = [user for user in first for _ in range(THREADS)]
            found = rules.ask(
                "several threads", lambda: list(pool.map(lambda u: recommender.slate(u, at, (), size), asked))
            )
        same = found is None or all(slate == first[user] for user, slate in zip(asked, found, strict=True))
        rules.hold("several threads get the same slates", same)


def _candidate(path: int, item: str | None) -> Candidate:
    return Candidate(path=path, step=0, role="complement", spec=WISH, fate="accepted", reason="", item=item, score=0.5)


def _slate(rules: Rules, slate: Slate, items: Collection[str], size: int) -> None:
    shown = [item.item for item in slate.items]
    rules.hold("a slate has 1 to `size` items", 1 <= len(shown) <= size, len(shown))
    rules.hold("no item stands twice", len(set(shown)) == len(shown), shown)
    ranks = [item.rank for item in slate.items]
    rules.hold("ranks count from 1", ranks == list(range(1, len(shown) + 1)), ranks)
    rules.hold("every item exists", set(shown) <= set(items), sorted(set(shown) - set(items)))
    rules.hold("scores are finite", all(math.isfinite(item.score) for item in slate.items))


def _effects(rules: Rules, effects: Sequence[Effect], asked: Sequence[int]) -> None:
    rules.hold("one effect for each path, in order", [one.path for one in effects] == list(asked))
    for one in effects:
        sides = one.probability_without, one.probability_with
        rules.hold("probabilities lie in [0, 1]", all(0 <= side <= 1 for side in sides), sides)
        rules.hold("the change is their difference", abs(one.change - (sides[1] - sides[0])) < CLOSE, one)
        rules.hold("the change lies in its interval", one.low - CLOSE <= one.change <= one.high + CLOSE, one)
