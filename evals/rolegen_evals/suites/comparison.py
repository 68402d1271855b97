r"""Two runs of a suite, case by case: what changed, how sure that is, and for whom.

For each measure the mean of the paired differences with a bootstrap interval, and the p-value of a permutation test that swaps
the two runs within cases (Fisher 1935, *The Design of Experiments*). The verdict looks at the primary measures alone, and its
p-values are those of their maximum: the runs are swapped in all of them together, and a measure counts as changed where its
standardised difference is above what the largest one reaches by chance (Westfall and Young 1993, *Resampling-Based Multiple
Testing*). So a comparison of a prompt with itself finds something in at most 5 of 100, however many measures are primary, and
one that no case changed in costs the others nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from rolegen_errors import InputError

from ..metrics import Interval, interval
from .cases import Case
from .graders import find_grader
from .suite import Suite

Floats = NDArray[np.float64]
Word = Literal["better", "worse", "no evidence"]
LEVEL, POWER = 0.05, 0.8
RESAMPLES = 4999
CELLS_AT_ONCE = 2_000_000
"""bounds the memory of a test to some 16 MB, whatever the number of cases"""
ROUNDING = 1e-12
"""sums of the same numbers in another order are equal"""
FEWEST_IN_SLICE = 10
"""cases of a slice below which nothing is said about it"""
CHANGED_MOST = 10


@dataclass(frozen=True)
class Change:
    """One measure on the cases that both runs say something about; differences are second run less first."""

    grader: str
    first: float
    second: float
    difference: Interval
    p: float
    """two-sided, of the permutation test of this measure alone; 1 where no case changed"""
    p_primary: float | None
    """the same, made good for the number of primary measures; None for the others"""
    cases_needed: int | None
    """about how many cases would show a true difference of this size with 80 % power; None without a difference"""

    @property
    def gain(self) -> float:
        """the difference in the direction of better"""
        return self.difference.value * find_grader(self.grader).better


@dataclass(frozen=True)
class Slice:
    """One measure on the cases of one stratum."""

    stratum: str
    value: str
    grader: str
    difference: Interval
    p: float


@dataclass(frozen=True)
class Moved:
    """A case whose primary measures changed much."""

    case: str
    user: str
    gain: float
    """sum over the primary measures of the gain as a share of the range of all gains"""
    changes: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """Everything that two runs have in common."""

    names: tuple[str, str]
    cases: int
    """in both runs"""
    missing: Mapping[str, int]
    """by run: cases of the suite that it has no result for"""
    changes: Sequence[Change]
    primary: Sequence[str]
    silent: Sequence[str]
    """primary measures that neither run says anything about, such as an LLM's validity where none was asked"""
    verdict: Word
    because: str
    slices: Sequence[Slice]
    moved: Sequence[Moved]
    cost_per_point: float | None
    """US dollars a decision for each hundredth gained in the first primary measure that got better; None where nothing did
    or the cost is not known"""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return asdict(self)


Values = Mapping[str, Mapping[str, float]]
"""by case, by grader"""


def compare(suite: Suite, cases: Sequence[Case], names: tuple[str, str], first: Values, second: Values) -> Comparison:
    """Compare two runs of the same suite.

    Raises:
        InputError: the runs have no case in common.
    """
    both = [case for case in cases if case.case in first and case.case in second]
    if not both:
        raise InputError("the runs have no finished case in common", where=" and ".join(names), fix="rolegen eval run")
    corrected = _corrected(suite, both, first, second)
    changes = [
        replace(found, p_primary=corrected.get(name))
        for name in suite.graders
        if (found := _change(name, both, first, second)) is not None
    ]
    verdict, because = _verdict(suite, changes)
    return Comparison(
        names=names,
        cases=len(both),
        missing={
            name: len(cases) - sum(case.case in run for case in cases)
            for name, run in zip(names, (first, second), strict=True)
        },
        changes=changes,
        primary=list(suite.primary),
        silent=[
            name for name in suite.primary if not any(name in one for run in (first, second) for one in run.values())
        ],
        verdict=verdict,
        because=because,
        slices=_slices(suite, both, first, second),
        moved=_moved(suite, both, first, second),
        cost_per_point=_cost_per_point(suite, changes),
    )


def worse_than_allowed(comparison: Comparison, margins: Mapping[str, float]) -> list[str]:
    """Primary measures that the second run may have lost more of than its margin: the non-inferiority test at 95 %.

    A measure passes when the worse end of the interval of its gain lies above the negative margin. One that says nothing
    about any case fails too: what was not measured has not been shown to be no worse. Only a measure on which both runs are silent, beside
    others that speak, is passed over.
    """
    by_name = {change.grader: change for change in comparison.changes}
    found = []
    for name, margin in margins.items():
        change = by_name.get(name)
        if change is None:
            if name not in comparison.silent or len(comparison.silent) == len(comparison.primary):
                found.append(f"{name}: measured on no case of both runs")
            continue
        ends = [change.difference.low, change.difference.high]
        known = [end for end in ends if end is not None] or [change.difference.value]
        worst = min(end * find_grader(name).better for end in known)
        if worst < -margin:
            found.append(
                f"{name}: {change.first:.4g} became {change.second:.4g}; it may be worse by {-worst:.4g}, allowed is {margin:g}"
            )
    return found


def _pairs(name: str, cases: Sequence[Case], first: Values, second: Values) -> Floats:
    """[cases, 2] of those that have the measure in both runs."""
    rows = [
        (first[case.case][name], second[case.case][name])
        for case in cases
        if name in first[case.case] and name in second[case.case]
    ]
    return np.asarray(rows, dtype=np.float64).reshape(len(rows), 2)


def _change(name: str, cases: Sequence[Case], first: Values, second: Values) -> Change | None:
    pairs = _pairs(name, cases, first, second)
    if not len(pairs):
        return None
    differences = pairs[:, 1] - pairs[:, 0]
    return Change(
        grader=name,
        first=float(pairs[:, 0].mean()),
        second=float(pairs[:, 1].mean()),
        difference=interval(differences),
        p=_p(differences),
        p_primary=None,
        cases_needed=_needed(differences),
    )


def _p(differences: Floats) -> float:
    return _chances(differences[:, None])[0]


def _corrected(suite: Suite, cases: Sequence[Case], first: Values, second: Values) -> dict[str, float]:
    """p-value of each primary measure beside the others; a case without the measure speaks for no change."""
    measured = [name for name in suite.primary if len(_pairs(name, cases, first, second))]
    differences = np.zeros((len(cases), len(measured)))
    for column, name in enumerate(measured):
        for row, case in enumerate(cases):
            before, after = first[case.case], second[case.case]
            if name in before and name in after:
                differences[row, column] = after[name] - before[name]
    return dict(zip(measured, _chances(differences), strict=True))


def _chances(differences: Floats) -> list[float]:
    r"""For each column of (cases, measures) how often chance gives the largest of all columns at least its size.

    The size is :math:`|\sum_i d_i| / \sqrt{\sum_i d_i^2}`; chance swaps the two runs within cases, in all columns together.
    """
    spread = np.sqrt((differences**2).sum(axis=0))
    moved = np.flatnonzero(spread)
    if len(differences) < 2 or not len(moved):
        return [1.0] * differences.shape[1]
    unit = differences[:, moved] / spread[moved]
    chance = np.concatenate([np.abs(swaps @ unit).max(axis=1) for swaps in _swaps(len(unit))])
    own = np.abs(unit.sum(axis=0))
    # Few cases are swapped in all ways, the present one among them; of many cases some ways are drawn, and the present one is added.
    extra = int(2 ** len(unit) > RESAMPLES)
    found = dict(
        zip(
            moved.tolist(),
            ((chance[:, None] >= own - ROUNDING).sum(axis=0) + extra) / (len(chance) + extra),
            strict=True,
        )
    )
    return [float(found.get(column, 1.0)) for column in range(differences.shape[1])]


def _swaps(cases: int) -> Iterator[Floats]:
    """Blocks of (ways, cases) with 1 and -1: all ways to swap few cases, of more cases some that are drawn."""
    if 2**cases <= RESAMPLES:
        ways = np.arange(2**cases)[:, None] >> np.arange(cases) & 1
        yield np.asarray(1 - 2 * ways, dtype=np.float64)
        return
    random, left = np.random.default_rng(0), RESAMPLES
    while left > 0:
        size = min(left, max(1, CELLS_AT_ONCE // cases))
        yield np.asarray(1 - 2 * random.integers(0, 2, (size, cases), dtype=np.int8), dtype=np.float64)
        left -= size


def _needed(differences: Floats) -> int | None:
    mean = float(differences.mean())
    if len(differences) < 2 or not mean:
        return None
    spread = float(differences.std(ddof=1))
    return math.ceil(float(((norm.isf(LEVEL / 2) + norm.isf(1 - POWER)) * spread / mean) ** 2))


def _verdict(suite: Suite, changes: Sequence[Change]) -> tuple[Word, str]:
    primary = [change for change in changes if change.grader in suite.primary]
    if not primary:
        return "no evidence", "no primary measure says anything about these cases"
    sure = [change for change in primary if _sure(change)]
    told = "; ".join(
        f"{one.grader} {one.difference.value:+.4g} ({_ends(one.difference)}, p = {one.p_primary:.2g})"
        for one in sure or primary
    )
    lost = [change for change in sure if change.gain < 0]
    if lost:
        return "worse", told + (" although others gained" if len(sure) > len(lost) else "")
    if sure:
        return "better", told
    asked = [change.cases_needed for change in primary if change.cases_needed is not None]
    here = max(change.difference.users for change in primary)
    more = (
        f"; a difference of the size seen would need about {min(asked):,} cases, here are {here:,}"
        if asked
        else "; no case changed"
    )
    return "no evidence", told + more


def _sure(change: Change) -> bool:
    return change.p_primary is not None and change.p_primary < LEVEL


def _ends(found: Interval) -> str:
    return "one case" if found.low is None or found.high is None else f"{found.low:+.4g} to {found.high:+.4g}"


def _slices(suite: Suite, cases: Sequence[Case], first: Values, second: Values) -> list[Slice]:
    found = []
    strata = sorted({(stratum, value) for case in cases for stratum, value in case.strata.items()})
    for stratum, value in strata:
        members = [case for case in cases if case.strata.get(stratum) == value]
        for name in suite.primary:
            pairs = _pairs(name, members, first, second)
            if len(pairs) >= FEWEST_IN_SLICE:
                differences = pairs[:, 1] - pairs[:, 0]
                found.append(Slice(stratum, value, name, interval(differences), _p(differences)))
    return found


def _moved(suite: Suite, cases: Sequence[Case], first: Values, second: Values) -> list[Moved]:
    spread = {
        name: float(np.ptp(pairs[:, 1] - pairs[:, 0]))
        for name in suite.primary
        if len(pairs := _pairs(name, cases, first, second))
    }
    found = []
    for case in cases:
        before, after = first[case.case], second[case.case]
        changes = {name: (before[name], after[name]) for name in suite.primary if name in before and name in after}
        gain = sum(
            find_grader(name).better * (new - old) / spread[name]
            for name, (old, new) in changes.items()
            if spread[name]
        )
        if any(old != new for old, new in changes.values()):
            found.append(Moved(case.case, case.user, gain, changes))
    return sorted(found, key=lambda one: (-abs(one.gain), one.case))[:CHANGED_MOST]


def _cost_per_point(suite: Suite, changes: Sequence[Change]) -> float | None:
    by_name = {change.grader: change for change in changes}
    gained = [
        by_name[name] for name in suite.primary if name in by_name and by_name[name].gain > 0 and _sure(by_name[name])
    ]
    cost = by_name.get("cost")
    if not gained or cost is None:
        return None
    return cost.difference.value / (100 * gained[0].gain)
