"""What outcomes say of claims: adjusted differences of order rates, and evidence that stays honest at every look.

For each value v that decisions can lead with (a role, a kind of path, a category) and each scope (all, one cohort), with
x = 1 where a decision led with v and y = 1 where it was followed by an order within the horizon:

- *Adjusted.* x and y are freed of what was known before the decision, by least squares (Frisch and Waugh 1933): cohort,
  month, and the recommender's own forecast of an order without the path. change = sum(x y) / sum(x x) of what is left.
  It is an association: who was led with v was not drawn by lot. Decisions that are withheld lessons (see ``retrieval``) are.
- *Its variance* is that of a binomial order around the forecast; decisions on one user go together with one correlation,
  estimated over all (exchangeable, Liang and Zeger 1986). Residuals of the few that led are not asked: with rare
  orders they are all alike by chance, and any claim would look certain. Where the sandwich of these is larger, it is used.
- *Shrunk* towards no effect by a normal prior whose deviation is ``SPREAD`` times the scope's order rate.
- *At every look.* The e-value is the likelihood ratio of that prior against no effect (Robbins 1970; Johari et al. 2022,
  mSPRT): where there is no effect, the chance that it ever exceeds 1/a is at most a, however often one looks.
- *Among many.* ``discoveries`` is e-BH (Wang and Ramdas 2022): the expected share of false ones is at most ``false_rate``,
  whatever hangs together with what.

Claims below the support floor are not tested, and do not count among the many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from rolegen_graphs.words import LessonEffect, Subject

from ..memory.lessons import KnownOutcome

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPREAD = 0.5
"""prior deviation of an effect, as a share of the scope's order rate"""
INTERVAL_Z = float(special.ndtri(0.95))
"""half width of a 90 % interval in standard errors"""
LEAST_EXPECTED = 5.0
"""orders expected on each side where there is no effect: below, the normal approximation is no good (Cochran 1954)"""
_ALL = ("all", "")
_SUBJECTS: tuple[Subject, ...] = ("path", "role", "category")
"""of values that the same decisions led with, the first is tested"""


@dataclass(frozen=True)
class Tested:
    """One value in one scope, and what outcomes say of leading with it."""

    scope: tuple[str, str]
    """("all", "") or ("cohort", key)"""
    subject: Subject
    value: str
    effect: LessonEffect


def judge(
    decisions: Sequence[KnownOutcome],
    *,
    support: int,
    only: Sequence[tuple[tuple[str, str], Subject, str]] | None = None,
) -> list[Tested]:
    """All values that enough decisions led with, in every scope.

    Args:
        support: users on each side at least; values below it are not tested.
        only: (scope, subject, value) to look at; None looks at all.
    """
    if not decisions:
        return []
    design = _Design(decisions)
    wanted = None if only is None else set(only)
    found: list[Tested] = []
    cohorts = sorted({one.cohort for one in decisions})
    # A cohort that everybody belongs to is everybody.
    for scope in [_ALL, *(("cohort", cohort) for cohort in cohorts if len(cohorts) > 1 or wanted is not None)]:
        rows = design.rows_of(scope)
        same: dict[bytes, tuple[Subject, str]] = {}
        for subject, value in design.values:
            led = design.led[(subject, value)][rows]
            # A kind of path and its role are often the same decisions: one test is enough, and tells no more than two.
            twin = same.setdefault(led.tobytes(), (subject, value))
            asked = wanted is not None and (scope, subject, value) in wanted
            if (wanted is None and twin != (subject, value)) or (wanted is not None and not asked):
                continue
            effect = design.effect(rows, led, support)
            if effect is not None:
                found.append(Tested(scope, subject, value, effect))
    return found


def discoveries(tested: Sequence[Tested], false_rate: float) -> list[Tested]:
    """e-BH: the tests that may be called found, at most ``false_rate`` of them false in expectation.

    Claims about everybody are few beside those about single cohorts: half of the attention goes to either, as weights
    with mean 1.
    """
    many = len(tested)
    kinds = Counter(one.scope[0] for one in tested)
    weighted = [(one.effect.e_value * many / (len(kinds) * kinds[one.scope[0]]), one) for one in tested]
    weighted.sort(key=lambda pair: (-pair[0], pair[1].scope, pair[1].subject, pair[1].value))
    kept = max((k for k in range(1, many + 1) if weighted[k - 1][0] >= many / (k * false_rate)), default=0)
    return [one for _, one in weighted[:kept]]


class _Design:
    """The decisions as arrays."""

    def __init__(self, decisions: Sequence[KnownOutcome]) -> None:
        self.ordered: Floats = np.array([one.ordered for one in decisions], dtype=np.float64)
        self.cohort = np.array([one.cohort for one in decisions], dtype=object)
        self.user: Ints = _codes([one.user for one in decisions])
        forecast = np.array([np.nan if one.forecast is None else one.forecast for one in decisions])
        missing = np.isnan(forecast)
        logit = special.logit(np.clip(np.where(missing, 0.5, forecast), 1e-4, 1 - 1e-4))
        months = _indicators([f"{one.at:%Y-%m}" for one in decisions])
        self._known = np.column_stack(
            [np.ones(len(decisions)), _indicators(self.cohort.tolist()), months, logit, missing]
        )
        values = sorted(
            {value for one in decisions for value in one.led}, key=lambda one: (_SUBJECTS.index(one[0]), one[1])
        )
        self.values: list[tuple[Subject, str]] = values
        self.led: Mapping[tuple[Subject, str], Floats] = {
            value: np.array([value in one.led for one in decisions], dtype=np.float64) for value in values
        }

    def rows_of(self, scope: tuple[str, str]) -> Ints:
        kind, key = scope
        return np.arange(len(self.ordered)) if kind == "all" else np.flatnonzero(self.cohort == key)

    def effect(self, rows: Ints, led: Floats, support: int) -> LessonEffect | None:
        user, ordered = self.user[rows], self.ordered[rows]
        sides = [np.unique(user[led == side]).size for side in (0, 1)]
        rate = float(ordered.mean()) if len(rows) else 0.0
        if min(sides) < support or not 0 < rate < 1:
            return None
        x, mean = _freed(led, self._known[rows]), _fitted(ordered, self._known[rows])
        mean = np.clip(mean, 0.2 * rate, 1 - 0.2 * (1 - rate))  # least squares knows no bounds
        if min(mean[led == 0].sum(), mean[led == 1].sum()) < LEAST_EXPECTED:
            return None
        y, weight = _freed(ordered, self._known[rows]), float(x @ x)
        if weight < 1e-9 * len(rows):  # what was known before tells who was led with it: nothing to compare
            return None
        change, variance = float(x @ y) / weight, _variance(x, y, mean, user) / weight**2
        prior = (SPREAD * rate) ** 2
        share = prior / (prior + variance)
        shrunk, deviation = share * change, float(np.sqrt(share * variance))
        log_e = 0.5 * np.log1p(-share) + 0.5 * change**2 * share / variance
        return LessonEffect(
            change=round(shrunk, 6),
            low=round(shrunk - INTERVAL_Z * deviation, 6),
            high=round(shrunk + INTERVAL_Z * deviation, 6),
            led=int(led.sum()),
            others=int(len(rows) - led.sum()),
            rate_led=round(float(ordered[led == 1].mean()), 6),
            rate_others=round(float(ordered[led == 0].mean()), 6),
            e_value=round(float(np.exp(min(log_e, 700.0))), 6),
        )


def _variance(x: Floats, y: Floats, mean: Floats, user: Ints) -> float:
    """Variance of sum(x y): binomial around ``mean``, with one correlation among the decisions on a user."""
    spread = x * np.sqrt(mean * (1 - mean))
    standard = y / np.sqrt(mean * (1 - mean))
    own = float(spread @ spread)
    pairs = np.bincount(user, standard) ** 2 - np.bincount(user, standard**2)
    sizes = np.bincount(user).astype(np.float64)
    count = float((sizes * (sizes - 1)).sum())
    alike = max(0.0, float(pairs.sum()) / count) if count else 0.0
    between = float((np.bincount(user, spread) ** 2).sum()) - own
    sandwich = float((np.bincount(user, x * y) ** 2).sum())
    return max(own + alike * between, sandwich, 1e-12)


def _fitted(values: Floats, known: Floats) -> Floats:
    fitted: Floats = known @ np.linalg.lstsq(known, values, rcond=None)[0]
    return fitted


def _freed(values: Floats, known: Floats) -> Floats:
    return values - _fitted(values, known)


def _codes(names: Sequence[str]) -> Ints:
    codes: Ints = np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
    return codes


def _indicators(names: Sequence[str]) -> Floats:
    """One column for each name but the first."""
    codes = _codes(names)
    return np.eye(codes.max() + 1)[codes][:, 1:]
