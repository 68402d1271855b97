"""The uncertainty gate: whether an LLM is asked about a user, and in how many rounds.

worth = (uncertainty * thinness * value) ** (1/3), each factor and the worth in [0, 1]:

- uncertainty = h / (h + h0): h is the entropy in nats of the recommender's slate without reasoning, h0 = ``half_entropy``;
- thinness = mean over the trajectory's events of k / (n + k): n observations of the log behind an event's roles, k as in
  the fusion; it is the share that an LLM's claim would have in the fused labels, so it says how much one can change;
- value = r / (r + 1): r is what the user spent over what the median customer did; 1/2 where that is not known.

A geometric mean, because a call can only pay where all three hold: a sure recommender, a log that settles every role, or
a user who hardly spends makes it small, whatever the others say. Rounds grow linearly from none at ``ask_from`` to all at
``all_from``: ceil(rounds * (worth - ask_from) / (all_from - ask_from)), and never more than all.

This ranking is a heuristic. Whether it finds the users for whom thinking pays has not been measured with outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from .fusion import Beliefs, Fusion, support_of
from .words import Observation, Record, Slate, Worth

Think = Literal["always", "uncertain"]


class Gate(Record):
    """Numbers of the gate. They are choices, not measurements."""

    half_entropy: float = Field(2.0, gt=0, allow_inf_nan=False)
    """nats at which the uncertainty is 1/2"""
    ask_from: float = Field(0.4, ge=0, lt=1)
    """with ``think="uncertain"``: no LLM for users whose worth is not above this"""
    all_from: float = Field(0.7, gt=0, le=1)
    """from this worth on all rounds are granted"""
    again_from: float = Field(2.0, ge=0, allow_inf_nan=False)
    """nats: a slate with less entropy is sure enough, no further round is worth its cost, whoever reasons"""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.all_from <= self.ask_from:
            raise ValueError(f"all_from = {self.all_from:g} must be above ask_from = {self.ask_from:g}")
        return self


def worth_of(
    seen: Observation,
    without_reasoning: Slate,
    beliefs: Mapping[int, Beliefs],
    *,
    gate: Gate,
    fusion: Fusion,
    think: Think,
    rounds: int,
) -> Worth:
    """The worth of an LLM's thinking about a user, and the rounds that the gate grants of at most ``rounds``.

    Args:
        without_reasoning: the recommender's slate before anybody reasoned.
        beliefs: the log's evidence by event; without any the evidence counts as thin.
        think: ``always`` grants every user all rounds and only reports the worth.
    """
    entropy = max(0.0, without_reasoning.entropy)
    events = seen.trajectory.events
    weights = [1 - fusion.log_weight(support_of(beliefs.get(event.event, {}))) for event in events]
    uncertainty = entropy / (entropy + gate.half_entropy)
    thinness = sum(weights) / len(weights) if weights else 1.0
    ratio = seen.trajectory.value
    value = 0.5 if ratio is None else max(0.0, ratio) / (max(0.0, ratio) + 1)
    worth = round((uncertainty * thinness * value) ** (1 / 3), 4)
    told = f"worth {worth:.2f}: uncertainty {uncertainty:.2f}, thin evidence {thinness:.2f}, value {value:.2f}"
    if think == "always":
        granted, why = rounds, f"every user is worth {_rounds(rounds)} ({told})"
    else:
        share = (worth - gate.ask_from) / (gate.all_from - gate.ask_from)
        granted = min(rounds, max(0, math.ceil(rounds * share)))
        why = (
            f"{told}; above {gate.ask_from:.2f}, so {_rounds(granted)}"
            if granted
            else f"{told}; not above {gate.ask_from:.2f}, so no LLM is asked"
        )
    return Worth(
        uncertainty=round(uncertainty, 4),
        thinness=round(thinness, 4),
        value=round(value, 4),
        worth=worth,
        rounds=granted,
        why=why,
    )


def within_budget(found: Worth, granted: int) -> Worth:
    """The same user under a budget that was spent on the users of the highest worth; ``granted`` 0: not on this one."""
    if granted or not found.rounds:
        return found.model_copy(update={"rounds": min(granted, found.rounds)})
    why = f"{found.why}; but the LLM budget went to users of higher worth"
    return found.model_copy(update={"rounds": 0, "why": why})


def another_round(slate: Slate, gate: Gate) -> bool:
    """Whether the recommender is still unsure enough of a reasoned slate for one more round to matter."""
    return slate.entropy >= gate.again_from


def _rounds(count: int) -> str:
    return f"{count} LLM round{'' if count == 1 else 's'}"
