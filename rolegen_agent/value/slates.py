"""What other slates would have brought, from a run whose slates were sampled: of another run, or of another policy in the memory.

Two questions. *slate*: how many of the shown items are bought, under the item-position model. *order*: whether there is a net
order at all, as a matter of the top item alone, with all below it drawn as they were.
Neither counts what would be bought without being shown, so a slate of habits looks good; ``rolegen evidence`` asks for effects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rolegen_errors import InputError
from rolegen_graphs.guard import half
from rolegen_graphs.keys import decision_id
from rolegen_graphs.words import Outcome, Slate

from .estimators import Floats, Value, estimate_value
from .places import DRAWS, place_probabilities
from .reward_model import crossfit

if TYPE_CHECKING:
    from ..memory import Memory


@dataclass(frozen=True, kw_only=True)
class SlateValue:
    """The answers, and what they rest on."""

    run: str
    target: str
    decisions: int
    """of the run, with a sampled slate and a known outcome, for which the target has a slate"""
    open: int
    """left out: their outcome is not known or not final"""
    unsampled: int
    """left out: their slate was not drawn"""
    unmatched: int
    """left out: the target has no slate for that user and time"""
    covered: float
    """share of the target's places whose item could have been drawn there; the rest counts as bringing nothing"""
    slate: Value
    order: Value


@dataclass(frozen=True)
class _Case:
    user: str
    slate: Slate
    target: Slate
    outcome: Outcome


def value_of_slates(
    memory: Memory, run: str, *, policy: str = "rolegen", against: str | None = None, seed: int = 0
) -> SlateValue:
    """Estimate what the slates of ``policy`` in the run ``against`` (by default the same run) would have brought.

    Args:
        run: whose sampled slates were shown, and whose outcomes are known.
        policy: ``rolegen``, ``backbone`` (without reasoning) or the name of a recorded baseline.

    Raises:
        InputError: no slate of the run carries propensities, or nothing is left to compare.
    """
    shown, outcomes = memory.full_slates(run, "rolegen"), memory.outcomes(run)
    where = f"run {run}"
    if not shown:
        known = ", ".join(one.run for one in memory.runs()) or "none"
        raise InputError("memory has no slates of this run", where=where, fix=f"name a run: {known}")
    sampled = {key: slate for key, slate in shown.items() if slate.draw is not None and slate.items}
    if not sampled:
        raise InputError(
            "its slates carry no propensities, so nothing can be said about slates that were not shown",
            where=where,
            fix="set [slate] explore = 0.3, awaken, show these slates, and ask again when their outcomes are known",
        )
    other = against or run
    theirs = memory.full_slates(other, policy)
    if not theirs:
        names = ", ".join(memory.policies(other)) or "none"
        raise InputError(
            f"memory has no slates of policy {policy!r} in run {other!r}", where=where, fix=f"its policies are {names}"
        )
    spans = {span.decision: span for span in memory.spans(decisions=sampled)}
    cases: list[_Case] = []
    unknown = unmatched = 0
    for key, drawn in sampled.items():
        span, outcome = spans[key], outcomes.get(key)
        match = theirs.get(decision_id(other, span.user, span.at))
        if outcome is None or not outcome.final:
            unknown += 1
        elif match is None or not match.items:
            unmatched += 1
        else:
            cases.append(_Case(span.user, drawn, match, outcome))
    if not cases:
        raise InputError(
            f"nothing is left to compare: {unknown} outcomes are open, {unmatched} decisions have no slate of the target",
            where=where,
            fix="record outcomes (`rolegen feedback --from-log`), or awaken the same users at the same time",
        )
    slate, order, covered = _values(cases, seed)
    return SlateValue(
        run=run,
        target=f"{policy} of {other}",
        decisions=len(cases),
        open=unknown,
        unsampled=len(shown) - len(sampled),
        unmatched=unmatched,
        covered=covered,
        slate=slate,
        order=order,
    )


def _values(cases: list[_Case], seed: int) -> tuple[Value, Value, float]:
    size = max(len(case.slate.items) for case in cases)
    weight, reward, exists, would_exist = (np.zeros((len(cases), size)) for _ in range(4))
    codes: dict[str, int] = {}
    facts: list[tuple[int, int, Floats, Floats]] = []
    wanted = possible = 0
    for n, case in enumerate(cases):
        draw = case.slate.draw
        if draw is None:
            continue
        table = place_probabilities(draw, len(case.slate.items))
        rank = {item: place for place, item in enumerate(draw.items)}
        bought, late = set(case.outcome.items), set(draw.late)
        for k, item in enumerate(case.slate.items):
            other = case.target.items[k].item if k < len(case.target.items) else None
            reward[n, k], exists[n, k] = item.item in bought, 1.0
            if other is not None:
                wanted += 1
                would_exist[n, k] = 1.0
                possible += other in rank and not (other in late and k < half(len(case.slate.items)))
                if other == item.item:
                    weight[n, k] = 1 / max(table[rank[other], k], 1 / DRAWS)  # the table tells nothing of what is rarer
            facts.append(
                (
                    n,
                    k,
                    _facts(item.item, k, rank, late, codes),
                    _facts(item.item if other is None else other, k, rank, late, codes),
                )
            )
    row, place = (np.array([one[axis] for one in facts], np.int64) for axis in (0, 1))
    logged, target = np.stack([one[2] for one in facts]), np.stack([one[3] for one in facts])
    users = [case.user for case in cases]
    spread = np.zeros((2, *weight.shape))
    owner = np.arange(len(facts))
    spread[0, row, place], spread[1, row, place] = crossfit(
        logged, reward[row, place], [users[n] for n in row], target, owner, seed=seed
    )
    whole = estimate_value(
        weight, reward, users, model_logged=spread[0] * exists, model_target=spread[1] * would_exist, seed=seed
    )
    ordered = np.array([[float(case.outcome.ordered_at is not None)] for case in cases])
    top: npt.NDArray[np.int64] = np.flatnonzero(place == 0)
    guess, would = crossfit(logged[top], ordered[:, 0], users, target[top], np.arange(len(top)), seed=seed)
    first = estimate_value(
        weight[:, :1], ordered, users, model_logged=guess[:, None], model_target=would[:, None], seed=seed
    )
    return whole, first, possible / max(wanted, 1)


def _facts(item: str, place: int, rank: dict[str, int], late: set[str], codes: dict[str, int]) -> Floats:
    """What the reward model reads of an item at a place: its code, rank in the list, place, and whether reasoning brought it."""
    return np.array(
        [
            codes.setdefault(item, len(codes)),
            np.log1p(rank.get(item, len(rank))),
            np.log1p(place),
            float(item in late),
        ]
    )
