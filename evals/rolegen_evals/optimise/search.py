"""The search itself: gepa over the parts of one prompt, on decisions of the loop.

gepa keeps its state in pickles, so it is given no folder. Everything that costs (answers of both models) is remembered by the
client in SQL, and the search is drawn by its seed: the same command goes through the same answers for nothing, and on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolegen_errors import MissingExtraError, RunPausedError

from ..suites.cases import Case
from ..suites.graders import find_grader
from ..suites.graders.grade import Graded
from .deciding import Deciding
from .proposing import Proposer
from .split import Split

Parts = dict[str, str]
SHOWN = 4
"""cases whose errors one proposal is made from"""
NOTHING = 0.0
"""score of a case about which the measure says nothing: equal for all proposals"""


@dataclass
class Found:
    """What a search came to."""

    best: Parts
    score: float = 0.0
    """mean of the measure on the cases to choose by"""
    start: float = 0.0
    """the same of the prompt as it was"""
    tried: int = 0
    """proposals that were judged by all of these cases"""
    stopped: str = "all proposals were made"


@dataclass
class _Adapter:
    """What gepa wants of a system: to be judged with given texts, and to be told better ones."""

    deciding: Deciding
    proposer: Proposer
    measure: str
    found: Found
    stages: Callable[[], None]
    _seen: dict[int, list[Graded]] = field(default_factory=dict)

    def evaluate(self, batch: list[Case], candidate: Parts, capture_traces: bool = False) -> Any:
        from gepa.core.adapter import EvaluationBatch

        graded = self.deciding.decide(batch, self.proposer.pack_of(candidate))
        self.stages()
        scores = [score(one, self.measure) for one in graded]
        return EvaluationBatch(
            outputs=[None] * len(batch), scores=scores, trajectories=graded if capture_traces else None
        )

    def make_reflective_dataset(
        self, candidate: Parts, eval_batch: Any, components_to_update: list[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: [{"graded": one} for one in eval_batch.trajectories] for name in components_to_update}

    def propose_new_texts(
        self,
        candidate: Parts,
        reflective_dataset: Mapping[str, Sequence[Mapping[str, Any]]],
        components_to_update: list[str],
    ) -> Parts:
        made = {
            name: self.proposer.propose(candidate, name, [one["graded"] for one in reflective_dataset[name]])
            for name in components_to_update
        }
        self.stages()
        return {name: text for name, text in made.items() if text is not None}

    def on_valset_evaluated(self, event: Mapping[str, Any]) -> None:
        """gepa's callback: a proposal was judged by all cases to choose by."""
        mean = float(event["average_score"])
        if event["candidate_idx"] == 0:
            self.found.start = self.found.score = mean
            return
        self.found.tried += 1
        if mean > self.found.score:
            self.found.best, self.found.score = dict(event["candidate"]), mean


class _Quiet:
    """gepa's log, in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_text("", "utf-8")

    def log(self, message: str) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(f"{message}\n")


def search(
    start: Parts,
    cases: Split,
    *,
    deciding: Deciding,
    proposer: Proposer,
    measure: str,
    proposals: int,
    seed: int,
    work: Path,
    progress: Callable[[], None],
) -> Found:
    """Search better texts for the parts ``start``; ends when ``proposals`` were made or the budget is spent.

    Raises:
        MissingExtraError: gepa is not installed.
    """
    try:
        from gepa.api import optimize
    except ImportError as error:
        raise MissingExtraError("gepa", "optimize") from error
    found = Found(best=dict(start))
    adapter: Any = _Adapter(deciding, proposer, measure, found, progress)
    shown = min(SHOWN, len(cases.learn))
    try:
        optimize(
            seed_candidate=dict(start),
            trainset=list(cases.learn),
            valset=list(cases.choose),
            adapter=adapter,
            reflection_minibatch_size=shown,
            # A minibatch without an error is passed over, and passes too must end.
            stop_callbacks=lambda state: proposer.made >= proposals or state.i >= 3 * proposals,
            callbacks=[adapter],
            logger=_Quiet(work / "gepa.log"),
            cache_evaluation=True,
            track_best_outputs=False,
            seed=seed,
        )
    except RunPausedError as paused:
        found.stopped = paused.what
    return found


def score(graded: Graded, measure: str) -> float:
    """What the search raises, more is better."""
    value = find_grader(measure).grade(graded)
    return NOTHING if value is None else value * find_grader(measure).better
