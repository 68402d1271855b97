"""Thousands of runs from a few: what becomes of every label by the role that the LLM gives it, and LLMs drawn anew.

A label goes through the loop on its own: fused with the log's evidence about its event, then graded. So one real run says which
events are labelled, the loop's own fusion says what each of the nine roles would come to there, and a further run is a draw of
roles. That equals real runs to the last digit, which the benchmark checks. Each repetition draws another LLM: no two of them have
anything in common but cases and log. The other measures of a repetition are those of real runs of the LLM asked again, taken in
pairs that are drawn by chance and swapped by chance within cases: two runs of one LLM are exchangeable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rolegen_agent.assembly import Assembly
from rolegen_graphs.fusion import CLASSES, fuse_label
from rolegen_graphs.words import Role, RoleBelief, RoleLabel

from ..suites.cases import Case
from ..suites.comparison import Comparison, compare, worse_than_allowed
from ..suites.decided import read_decided
from ..suites.runs import Run
from ..suites.suite import Suite
from .skilled_mind import CONFIDENCE, Luck

MEASURE = "role_accuracy"
Values = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Labels:
    """All N labels of known truth in the runs of a suite: equal in all of them but for the role that the LLM gives."""

    cases: Sequence[str]
    """(C,) ids of those with a label"""
    case: NDArray[np.int64]
    """(N,) place in ``cases``"""
    event: NDArray[np.int64]
    """(N,) place of the event's luck"""
    truth: NDArray[np.int64]
    """(N,) place in ``CLASSES``"""
    right: NDArray[np.bool_]
    """(N, 9) whether the fused label is right, by the role that the LLM gives"""

    @classmethod
    def read(cls, run: Path, cases: Sequence[Case], assembly: Assembly, places: Mapping[int, int]) -> Labels:
        """From a real run's folder: which events were labelled, and what fusion makes of every role there."""
        evidence = assembly.parts.evidence
        assert evidence is not None, "the LLM reasoner has the log's evidence beside it"
        decided = read_decided(run, {case.case for case in cases})
        names: list[str] = []
        rows: list[tuple[int, int, int, list[bool]]] = []
        for case in cases:
            beliefs = evidence.beliefs(case.observation)
            told = decided[case.case].decision_on(case).rounds[-1].reading.labels
            known = [label for label in told if label.event in case.roles]
            for label in known:
                truth = case.roles[label.event]
                fused = [
                    _fused(label, role, beliefs.get(label.event, {}), assembly) == truth for role in range(len(CLASSES))
                ]
                rows.append((len(names), places[label.event], CLASSES.index(truth), fused))
            names += [case.case] if known else []
        case_of, event, place_of_truth = (
            np.asarray([row[column] for row in rows], dtype=np.int64) for column in range(3)
        )
        return cls(names, case_of, event, place_of_truth, np.asarray([row[3] for row in rows]))

    def graded(self, luck: Luck, skill: float) -> dict[str, float]:
        """Role accuracy by case of a run with this luck."""
        roles = luck.roles(self.event, self.truth, skill)
        return dict(zip(self.cases, self._by_case(self.right[np.arange(len(roles)), roles]).tolist(), strict=True))

    def expected(self, skill: float) -> float:
        """Mean role accuracy over all luck."""
        truth = np.eye(len(CLASSES), dtype=np.bool_)[self.truth]
        chance = np.where(truth, skill, (1 - skill) / (len(CLASSES) - 1))
        return float(self._by_case((self.right * chance).sum(axis=1)).mean())

    def skill_for(self, usual: float, gain: float) -> float:
        """The skill by which the mean role accuracy is ``gain`` above that of ``usual``: it is linear in the skill."""
        return usual + gain / (self.expected(1.0) - self.expected(0.0))

    def _by_case(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.bincount(self.case, values) / np.bincount(self.case)
        return found


@dataclass
class Tally:
    """Shares over repetitions."""

    counts: dict[str, int] = field(default_factory=dict)
    repeats: int = 0

    def add(self, found: Comparison, margins: Mapping[str, float]) -> None:
        self.repeats += 1
        for name, happened in (
            (found.verdict, True),
            ("stopped", any(told.startswith(MEASURE) for told in worse_than_allowed(found, margins))),
        ):
            self.counts[name] = self.counts.get(name, 0) + happened

    def share(self, name: str) -> float:
        return self.counts.get(name, 0) / max(self.repeats, 1)


@dataclass(frozen=True)
class Repeats:
    """Repeated pairs of runs, compared as a user compares them."""

    suite: Suite
    cases: Sequence[Case]
    labels: Labels
    events: int
    others: Sequence[Values]
    """the other measures, of real runs of one LLM asked again; none: role accuracy alone is compared"""

    def tally(self, skills: tuple[float, float], *, repeats: int, lasting: float, first: int = 0) -> Tally:
        """Comparisons of a run at the first skill with one at the second; repetition ``first`` is the first to be drawn."""
        found = Tally()
        # Without strata: slices are for reading, and no verdict looks at them.
        cases = [case.model_copy(update={"strata": {}}) for case in self.cases]
        for seed in range(first, first + repeats):
            before, after = (
                self.labels.graded(Luck.draw(self.events, seed=seed, run=run, lasting=lasting), skill)
                for run, skill in enumerate(skills)
            )
            pair = self._pair(np.random.default_rng([seed, 2]))
            runs = [
                {case: {MEASURE: value, **others.get(case, {})} for case, value in graded.items()}
                for graded, others in zip((before, after), pair, strict=True)
            ]
            found.add(compare(self.suite, cases, ("first", "second"), runs[0], runs[1]), self.suite.primary)
        return found

    def _pair(self, random: np.random.Generator) -> tuple[Values, Values]:
        if not self.others:
            return {}, {}
        one, two = (self.others[place] for place in random.choice(len(self.others), 2, replace=False))
        swapped = {case for case, coin in zip(one, random.random(len(one)) < 0.5, strict=True) if coin}
        return (
            {case: (two if case in swapped else one).get(case, {}) for case in one},
            {case: (one if case in swapped else two).get(case, {}) for case in one},
        )


def other_measures(run: Run, suite: Suite) -> Values:
    """What a real run measured beside role accuracy, of the primary measures."""
    names = [name for name in suite.primary if name != MEASURE]
    return {case: {name: values[name] for name in names if name in values} for case, values in run.values.items()}


def _fused(label: RoleLabel, role: int, beliefs: Mapping[Role, RoleBelief], assembly: Assembly) -> Role:
    said = label.model_copy(update={"role": CLASSES[role], "confidence": CONFIDENCE, "parts": None})
    return fuse_label(said, beliefs, assembly.settings.fusion).role
