"""Shapley values of a few players: what each one adds to the worth of a group, averaged over all orders of joining.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S + i) - v(S)) (Shapley 1953). They add up to v(all) - v(none), equals get
equal values, and who never adds anything gets 0. Exact: 2 ** n values are asked for, so n stays small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb


def coalitions(players: int) -> list[tuple[int, ...]]:
    """All groups of ``players`` that are not empty, the small ones first, each in the players' order."""
    return [group for size in range(1, players + 1) for group in combinations(range(players), size)]


def shapley(players: int, worth: Mapping[tuple[int, ...], float]) -> list[float]:
    """The value of each player.

    Args:
        worth: of every group of :func:`coalitions`, and of nobody: ``()``.
    """
    values = []
    for player in range(players):
        value = 0.0
        for group in [(), *coalitions(players)]:
            if player not in group:
                more = tuple(sorted((*group, player)))
                value += (worth[more] - worth[group]) / (players * comb(players - 1, len(group)))
        values.append(value)
    return values


def shares(worth_of_none: float, values: Sequence[float]) -> tuple[float, list[float]]:
    """What was there without anybody and what each player added, as parts of one; without any worth all is the former's."""
    total = worth_of_none + sum(values)
    if total <= 0:
        return 1.0, [0.0] * len(values)
    return worth_of_none / total, [value / total for value in values]
