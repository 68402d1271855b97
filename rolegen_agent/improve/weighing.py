"""How much the effects of showing should weigh: chosen on exposures that they were not estimated from.

Users are halved. Effects are estimated from one half and, for each weight, the slates of users who are dormant now are valued by the other
half's exposures (:mod:`rolegen_agent.value.exposures`), and the other way round: so every exposure of the log tells of both, and none of
itself (cross-fitting: Chernozhukov et al. 2018). The best weight is taken only if it is surely better than none; else it is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from ..evidence import Evidence, Market
from ..evidence.effects import effects
from ..evidence.log import read_log
from ..evidence.store import EFFECTS
from ..outlook import Outlook
from ..showing import Showing
from ..value.exposures import Exposures, Value, difference, pooled, read_exposures, value_of
from .policies import Slates

if TYPE_CHECKING:
    from rolegen_backbone.artefact import TrainedBackbone

    from ..settings import Settings

EVER = datetime(1, 1, 1, tzinfo=UTC)
ASKED = 300
"""users whose slates are valued, at most: policies differ by context, of which there are few"""
SURE = 0.95
"""one-sided confidence with which a weight must be better than none"""
LEAST_EFFECTIVE = 30.0
"""effective exposures of a policy, below which nothing is said of its value"""


@dataclass(frozen=True)
class Weighing:
    """What was chosen, and why: the value of each weight less that of none, with one-sided bounds."""

    weight: float = 0.0
    reason: str = ""
    tried: list[dict[str, float]] = field(default_factory=list)


def choose_weight(
    backbone: TrainedBackbone,
    evidence: Evidence,
    events: pl.DataFrame,
    users: Sequence[str],
    at: datetime,
    settings: Settings,
    outlook: Outlook,
) -> Weighing:
    """The weight for artefacts as of ``at``, from events strictly before it and the slates of ``users``."""
    wanted = settings.improve
    if not wanted.effect_weights:
        return Weighing(reason="switched off by [improve] effect_weights")
    if not evidence.shown:
        return Weighing(reason="the log does not say what was shown")
    if not users:
        return Weighing(reason="nobody is dormant")
    halves = [_half(events, number) for number in range(2)]
    days = evidence.options.horizon_days
    sides: list[tuple[Showing, Exposures]] = []
    for number, half in enumerate(halves):
        seen = read_exposures(
            halves[1 - number], backbone.items, since=EVER, until=at, options=evidence.options, days=days
        )
        if seen is None:
            return Weighing(reason="no exposure is old enough to know what it brought")
        table = effects(read_log(half, backbone.items, at=at), evidence.options)[0]
        theirs = replace(evidence, tables={**evidence.tables, EFFECTS: table})
        sides.append((Showing.of(1.0, theirs, events, backbone.items, at, outlook), seen))
    return _best(backbone, Market(events, backbone.items), users[:ASKED], at, settings, sides)


def _best(
    backbone: TrainedBackbone,
    market: Market,
    users: Sequence[str],
    at: datetime,
    settings: Settings,
    sides: Sequence[tuple[Showing, Exposures]],
) -> Weighing:
    wanted = settings.improve

    def value(weight: float) -> Value:
        found = []
        for showing, seen in sides:
            slates = Slates(backbone, market, settings, replace(showing, weight=weight, _known={}))
            found.append(value_of(slates.policy(slates.make(users, at), users, at, showing.needs, showing.ahead), seen))
        return pooled(found)

    none = value(0.0)
    tried, best = [], (0.0, 0.0)
    for weight in wanted.effect_weights:
        made = value(weight)
        gap = difference(made, none, SURE)
        tried.append({"weight": weight, "effective": made.effective, **asdict(gap)})
        if made.effective >= LEAST_EFFECTIVE and gap.low > 0 and gap.value > best[1]:
            best = weight, gap.value
    if best[0]:
        return Weighing(best[0], f"{best[1]:+.4f} orders per showing against none", tried)
    return Weighing(0.0, "no weight is surely better than none", tried)


def _half(events: pl.DataFrame, number: int) -> pl.DataFrame:
    """The events of every second user."""
    return events.filter(pl.col("user").rank("dense") % 2 == number)
