"""Cases apart by user: what the optimiser learns from, what it chooses by, and what it never sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from rolegen_errors import InputError

from ..suites.cases import Case

FEWEST = 2
"""users in each part"""


@dataclass(frozen=True)
class Split:
    """No user stands in two of them."""

    learn: Sequence[Case]
    """whose errors are shown to the model that proposes"""
    choose: Sequence[Case]
    """by which proposals are chosen"""
    held_out: Sequence[Case]
    """on which the chosen one is compared with what it came from"""


def split(cases: Sequence[Case], *, held_out: float, seed: int) -> Split:
    """``held_out`` of the users for the comparison, the others half and half; drawn by a digest of user and ``seed``.

    Raises:
        InputError: a part would have fewer than ``FEWEST`` users.
    """
    users = sorted(
        {case.user for case in cases}, key=lambda user: hashlib.sha256(f"optimise/{seed}/{user}".encode()).digest()
    )
    kept = round(len(users) * held_out)
    half = (len(users) - kept) // 2
    parts = users[:kept], users[kept : kept + half], users[kept + half :]
    if min(map(len, parts)) < FEWEST:
        raise InputError(
            f"{len(users)} users are too few to be kept apart",
            fix="rolegen eval cases --count N, or another --held-out",
        )
    apart, learn, choose = (set(part) for part in parts)

    def of(chosen: set[str]) -> list[Case]:
        return [case for case in cases if case.user in chosen]

    return Split(learn=of(learn), choose=of(choose), held_out=of(apart))
