"""Is the new one not worse than the old one? Both decide on the same users, and what came later is the judge.

Users who were dormant when the held-back time began are decided on as of then; decisions that memory holds from within that time
are decided on again, with the candidates that were reasoned then. Both sides know what lies before a decision and no more.

- Where exposures were logged in the held-back time, the judge is the value per showing (:mod:`rolegen_agent.value.exposures`): orders
  are what a slate is for, and a slate that moves people may well hold fewer of the items that they would have bought anyway.
- Elsewhere it is NDCG@10 of what the users who came back ordered; hit@1 stands beside it.

The new one passes if, with ``confidence``, it is not worse by more than the margin (a non-inferiority test, paired). A user who is
decided on at several times may be judged by one and the same order: the test counts users, not decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from ..artefacts import open_backbone
from ..evidence import Evidence, EvidenceOptions, Market
from ..outcomes import first_order_baskets
from ..outlook import Context, Outlook
from ..showing import Needs, Showing, read_weight
from ..value.exposures import Policy, difference, read_exposures, value_of
from .build import sample
from .policies import Slates
from .weighing import LEAST_EFFECTIVE

if TYPE_CHECKING:
    from ..memory.records import Experience
    from ..project import Project, Settings

PLACES = 10
MOST_TIMES = 6
"""decision times within the held-back time that are decided on again, those with the most decisions"""


@dataclass(frozen=True)
class Verdict:
    """Whether the new one may serve, why, and every figure that was looked at."""

    passed: bool
    reason: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class _Asked:
    """Users who are decided on at one time, and the real decisions on some of them."""

    at: datetime
    users: Sequence[str]
    real: Mapping[str, Experience]


@dataclass(frozen=True)
class _Judged:
    """One side's answers: (hit@1, NDCG@10) of everybody who ordered, and its policy at the first time."""

    hits: npt.NDArray[np.float64]
    users: Sequence[str]
    """of the rows of ``hits``, the same for both sides"""
    policy: Policy


def trial(project: Project, old: Path, new: Path, held: datetime, at: datetime, found: Sequence[Experience]) -> Verdict:
    """Compare two artefact folders on what happened in [``held``, ``at``); both were made before ``held``."""
    settings, wanted = project.settings, project.settings.improve
    past, first = open_backbone(project, old, held)
    events = pl.scan_parquet(project.events).filter(pl.col("time") < at).collect()
    asked = [_Asked(held, sample(past, held, settings), {}), *_real(found, held)]
    ordered = [_ordered(events, one, at, settings) for one in asked]
    options = Evidence.load(old / "evidence").options
    needs = Needs.of(past, first.items, held, options)
    outlook = Outlook.of(past, first.items, held, options, settings.slate.horizon_days)
    # One outlook for both sides: what they are judged by must not depend on what they expect.
    ahead = outlook.ahead(first.items["category"].unique().sort().to_list())
    sides = [_judge(project, folder, asked, ordered, needs, ahead) for folder in (old, new)]
    hit, ndcg = (_paired(sides[1].hits[:, k] - sides[0].hits[:, k], sides[0].users, wanted.confidence) for k in (0, 1))
    figures: dict[str, Any] = {
        "decisions": sum(len(one.users) for one in asked),
        "real_decisions": sum(len(one.real) for one in asked),
        "returned": len(set(sides[0].users)),
        "hit1": {"old": _mean(sides[0].hits[:, 0]), "new": _mean(sides[1].hits[:, 0]), **hit},
        "ndcg10": {"old": _mean(sides[0].hits[:, 1]), "new": _mean(sides[1].hits[:, 1]), **ndcg},
        "weights": [read_weight(old), read_weight(new)],
    }
    value = _value(events, first.items, held, at, sides, options, wanted.confidence)
    figures |= value
    if figures["returned"] < wanted.min_returned:
        few = f"only {figures['returned']} of {figures['decisions']} users ordered in the held-back time"
        return Verdict(
            False, f"{few}: too few to tell, {wanted.min_returned} are needed ([improve] min_returned)", figures
        )
    if "value" in value:
        gap, margin, what = value["value"], wanted.margin_value, "orders per showing"
    else:
        gap, margin, what = figures["ndcg10"], wanted.margin_hits, "NDCG@10"
    told = f"{gap['new']:.4f} against {gap['old']:.4f} {what}, difference at least {gap['low']:+.4f}"
    if gap["low"] >= -margin:
        return Verdict(True, f"not worse: {told}, margin {margin}", figures)
    return Verdict(False, f"not surely as good: {told}, margin {margin}", figures)


def _real(found: Sequence[Experience], held: datetime) -> list[_Asked]:
    """Remembered decisions from ``held`` on, by time."""
    by_time: dict[datetime, dict[str, Experience]] = {}
    for one in found:
        if one.at >= held:
            by_time.setdefault(one.at, {})[one.user] = one
    most = sorted(by_time, key=lambda at: (-len(by_time[at]), at))[:MOST_TIMES]
    return [_Asked(at, sorted(by_time[at]), by_time[at]) for at in sorted(most)]


def _ordered(events: pl.DataFrame, asked: _Asked, at: datetime, settings: Settings) -> dict[str, list[str]]:
    """What each user ordered from the decision on, within the horizon and before ``at``."""
    until = min(asked.at + timedelta(days=settings.slate.horizon_days), at)
    days = -(-(until - asked.at) // timedelta(days=1))
    baskets = first_order_baskets(events.filter(pl.col("time") < until), asked.at, days, asked.users)
    return {user: basket.items for user, basket in baskets.items()}


def _judge(
    project: Project,
    folder: Path,
    asked: Sequence[_Asked],
    ordered: Sequence[Mapping[str, list[str]]],
    needs: Needs,
    ahead: Mapping[Context, Mapping[Context, float]],
) -> _Judged:
    settings = project.settings
    evidence, weight = Evidence.load(folder / "evidence"), read_weight(folder)
    policy: Policy | None = None
    hits: list[tuple[float, float]] = []
    who: list[str] = []
    for one, bought in zip(asked, ordered, strict=True):
        # Opened anew for each time: what comes after a decision is then not even at hand.
        events, backbone = open_backbone(project, folder, one.at)
        market = Market(events, backbone.items)
        showing = Showing.of(weight, evidence, events, backbone.items, one.at, Outlook.load(folder)) if weight else None
        reasoners = {real.reasoner for real in one.real.values()} or {""}
        for reasoner in sorted(reasoners):
            users = [user for user in one.users if not one.real or one.real[user].reasoner == reasoner]
            maker = Slates(backbone.trusting(reasoner).served(), market, settings, showing)
            slates = maker.make(users, one.at, {u: (r.candidates, r.labels) for u, r in one.real.items()})
            policy = policy or maker.policy(slates, users, one.at, needs, ahead)
            hits += [_score(slate, bought[user]) for user, slate in zip(users, slates, strict=True) if user in bought]
            who += [user for user in users if user in bought]
    assert policy is not None  # the first time asks about somebody, or nobody ordered and the policy is empty
    return _Judged(np.array(hits, np.float64).reshape(-1, 2), who, policy)


def _score(slate: Sequence[str], bought: Sequence[str]) -> tuple[float, float]:
    """hit@1 and NDCG@10 with gain 1 for each ordered item (Järvelin & Kekäläinen 2002)."""
    gain = 1 / np.log2(np.arange(PLACES) + 2)
    hit = np.isin(slate[:PLACES], bought)
    return float(hit[0]) if len(hit) else 0.0, float(
        gain[: len(hit)][hit].sum() / gain[: min(len(bought), PLACES)].sum()
    )


def _paired(gap: npt.NDArray[np.float64], users: Sequence[str], confidence: float) -> dict[str, float]:
    """Mean of a paired difference with one-sided bounds, clustered by user (with one row each: Student's t).

    The error is sqrt(G / (G - 1) * sum_u (sum_i (gap_i - mean))^2) / N for G users with N rows (Liang and Zeger 1986).
    """
    mean = _mean(gap)
    _, owner = np.unique(np.asarray(users, dtype=str), return_inverse=True)
    count = int(owner.max()) + 1 if len(gap) else 0
    if count < 2 or not np.ptp(gap):
        return {"difference": mean, "low": mean, "high": mean}
    apart = np.bincount(owner, gap - mean)
    error = np.sqrt(count / (count - 1) * float(apart @ apart)) / len(gap)
    reach = float(stats.t.ppf(confidence, count - 1) * error)
    return {"difference": mean, "low": mean - reach, "high": mean + reach}


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _value(
    events: pl.DataFrame,
    items: pl.DataFrame,
    held: datetime,
    at: datetime,
    sides: Sequence[_Judged],
    options: EvidenceOptions,
    confidence: float,
) -> dict[str, Any]:
    """The value per showing of both sides; nothing where the log tells too little of what was shown."""
    half = (at - held).total_seconds() / 86_400 / 2
    seen = read_exposures(events, items, since=held, until=at, options=options, days=min(options.horizon_days, half))
    if seen is None:
        return {}
    old, new = (value_of(side.policy, seen) for side in sides)
    effective = min(old.effective, new.effective)
    told = {"exposures": len(seen), "effective_exposures": effective}
    if effective < LEAST_EFFECTIVE:
        return told
    gap = asdict(difference(new, old, confidence))
    return told | {"value": {"old": old.value, "new": new.value, "difference": gap.pop("value"), **gap}}
