"""Running a suite with inspect-ai: its scheduling, connections, cache, logs and viewer, with the decision graph as solver.

Each decided case is written down at once (``decided.py``), so that a stopped or killed run goes on with the others. A grader that
raises fails its case, visibly, and not the run; the same command tries failed cases again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CapacityLimiter
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import Model, get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from rolegen_agent import RoleGen
from rolegen_agent.assembly import Assembly, price
from rolegen_agent.report.text import bounded
from rolegen_errors import InputError, ProjectError, RoleGenError
from rolegen_graphs import Parts, create_decision_graph
from rolegen_graphs.words import CallSite, Decision, Observation, Reading

from .answers import Recorded
from .asking import InspectAsker, model_of
from .cases import Case
from .decided import Decided, Journal, seen_digest
from .graders import Graded, find_grader
from .judging import Judge, Labelled, exhibit
from .pinned import Pinned
from .retelling import RETELLINGS
from .suite import Suite

if TYPE_CHECKING:
    from rolegen_agent.llm import Price

MOST_SAID = 500
"""characters of a failure that are kept"""
OFFLINE = "mockllm/model"
"""inspect wants a model; where the evidence reasoner answers, this one is never asked"""


@dataclass(frozen=True)
class Setup:
    """What is judged: a project with its reasoner, prompts and settings, and how the model is reached."""

    shop: RoleGen
    suite: Suite
    cache: bool = True
    at_once: int = 8
    """cases under way at the same time"""
    replay: Mapping[str, Recorded] | None = None
    """recorded answers; no endpoint is then asked"""
    journal: Journal | None = None
    """where decided cases are written and found again; None keeps nothing"""
    judge: Judge | None = None
    """who looks at each decision, if anybody does"""
    turn: Lock = field(default_factory=Lock)
    """held by the decision that works: threads that fight over the interpreter cost 1.7 times the processor time"""

    @property
    def llm(self) -> bool:
        return self.shop.project.settings.reasoner.kind == "llm"

    def model(self) -> str | Model:
        """The project's endpoint as a model of inspect-ai."""
        if not self.llm or self.replay is not None:
            return OFFLINE
        return model_of(self.shop.project.settings.llm)

    def named_model(self) -> str:
        """The model's name.

        Raises:
            ProjectError: there is none.
        """
        named = self.shop.project.settings.llm.model
        if named is None:
            raise ProjectError("the LLM reasoner has no model", fix="set OPENAI_MODEL, or pass --model NAME")
        return named


@dataclass
class Ran:
    """What came of the cases, filled while they run."""

    decided: dict[str, Decided] = field(default_factory=dict)
    """by case"""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """by case, by grader: what was measured; graders that had nothing to say are left out"""
    failures: dict[str, str] = field(default_factory=dict)
    """by case: why it could not be decided on or graded"""
    judged: list[Recorded] = field(default_factory=list)
    """what the judge answered"""
    log: Path = field(default_factory=Path)
    """inspect's log"""

    def answers(self) -> list[Recorded]:
        """All answers of models, to be replayed."""
        asked = [
            Recorded(request=q.request, raw=q.raw, input_tokens=q.input_tokens, output_tokens=q.output_tokens)
            for one in self.decided.values()
            for q in one.asked
            if not q.error
        ]
        return asked + self.judged


def run_suite(setup: Setup, cases: Sequence[Case], log_folder: Path, *, progress: bool) -> Ran:
    """Decide on every case that the journal does not hold, and grade all.

    Args:
        log_folder: where inspect's log goes: `inspect view --log-dir` shows it.
        progress: draw inspect's progress on the terminal.

    Raises:
        InputError: cases of another training.
        ProjectError: the run was broken off.
    """
    assemblies = {at: setup.shop.assembly(at) for at in {case.at for case in cases}}
    for case in cases:
        made = assemblies[case.at].artefacts.fingerprint
        if case.artefacts != made:
            raise InputError(
                f"the case was made with training {case.artefacts}, the project now has {made}",
                where=f"case {case.case}",
                fix="make the cases anew: rolegen eval cases",
            )
    ran = Ran()
    task = Task(
        dataset=MemoryDataset([_sample(case) for case in cases]),
        solver=_decide(setup, {case.case: case for case in cases}, assemblies, ran),
        scorer=[_score(name, ran) for name in setup.suite.graders],
        name="decisions",
    )
    [log] = inspect_eval(
        task,
        log_dir=str(log_folder),
        model=setup.model(),
        max_samples=setup.at_once,
        max_connections=setup.at_once,
        fail_on_error=False,
        display="rich" if progress else "none",
        log_level="warning",
        # The journal keeps what a kill must not lose, so inspect's own copy of every event, and of every request, is not needed.
        log_realtime=False,
        log_model_api=False,
        acp_server=False,
        ctl_server=False,
    )
    ran.log = Path(log.location)
    if log.status != "success":
        said = log.error.message if log.error is not None else log.status
        raise ProjectError(
            f"the run did not end: {said}", where=log.location, fix="the same command goes on with what is left"
        )
    return ran


def _sample(case: Case) -> Sample:
    return Sample(id=case.case, input=f"user {case.user} at {case.at.isoformat()}", metadata={"strata": case.strata})


@solver(name="decision")
def _decide(setup: Setup, cases: Mapping[str, Case], assemblies: Mapping[datetime, Assembly], ran: Ran) -> Solver:
    cost = price(setup.shop.project)
    limiter = CapacityLimiter(setup.at_once)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        case = cases[str(state.sample_id)]
        model = get_model()  # the one of this evaluation; it lives in the event loop's context, not in the thread's

        def work() -> Decision:
            with setup.turn:
                return _worked(setup, assemblies[case.at], case, model, cost, ran)

        try:
            decision = await anyio.to_thread.run_sync(work, limiter=limiter)
        except Exception as error:
            ran.failures[case.case] = _said(error)
            raise
        state.output.completion = ", ".join(item.title for item in decision.slate.items)
        return state

    return solve


def _worked(setup: Setup, assembly: Assembly, case: Case, model: Model, cost: Price | None, ran: Ran) -> Decision:
    """Decide on a case, or find what was decided, and grade it; runs in a thread of its own."""
    seen = seen_digest(case)
    found = setup.journal.find(case, seen, setup.suite.retellings) if setup.journal is not None else None
    if found is None:
        found = _taken(setup, assembly, case, model, cost, seen)
        if setup.journal is not None:
            setup.journal.add(found)
    ran.decided[case.case] = found
    decision = found.decision_on(case)
    source = assembly.parts.evidence if assembly.parts.evidence is not None else assembly.parts.reasoner
    beliefs = source.beliefs(case.observation) if hasattr(source, "beliefs") else {}
    judged: Mapping[str, bool] = {}
    if setup.judge is not None:
        judged, answer = setup.judge.ask(exhibit(decision), setup.replay, setup.turn)
        ran.judged.append(answer)
    graded = Graded(case, decision, found.asked, beliefs, found.again, judged)
    ran.values[case.case] = _graded(setup.suite.graders, graded)
    return decision


def _graded(names: Sequence[str], graded: Graded) -> dict[str, float]:
    found = {}
    for name in names:
        try:
            value = find_grader(name).grade(graded)
            if value is not None:
                found[name] = float(value)
        except Exception as error:
            raise RuntimeError(f"grader {name}: {_said(error)}") from error
    return found


def _said(error: Exception) -> str:
    told = str(error) if isinstance(error, RoleGenError | RuntimeError) else f"{type(error).__name__}: {error}"
    return bounded(told, MOST_SAID)


def _taken(setup: Setup, assembly: Assembly, case: Case, model: Model, cost: Price | None, seen: str) -> Decided:
    """One decision on a pinned case."""
    llm = setup.shop.project.settings.llm
    asker = InspectAsker(
        model, llm=llm, name=llm.model or "", cache=setup.cache, price=cost, replay=setup.replay, turn=setup.turn
    )
    parts = assembly.asking(asker) if setup.llm else assembly.parts
    parts = replace(parts, observer=Pinned(case.observation), memory=None)
    graph = create_decision_graph(parts, settings=assembly.settings).compile()
    decision = graph.invoke({"user": case.user, "at": case.at})["decision"]
    assert isinstance(decision, Decision)
    asked = tuple(asker.asked)
    return Decided(
        case=case.case,
        seen=seen,
        decision=decision.model_dump_json(exclude={"observation"}),
        asked=asked,
        again=_retold(setup, parts, case, decision),
    )


def _retold(setup: Setup, parts: Parts, case: Case, decision: Decision) -> dict[str, Reading]:
    site = CallSite(decision=decision.decision, round=1, node="reason")

    def read(seen: Observation) -> Reading:
        return parts.ask("reason", lambda reasoner: reasoner.reason(seen, (), site=site))[0]

    return {name: read(RETELLINGS[name](case.observation)) for name in setup.suite.retellings}


def _score(name: str, ran: Ran) -> Scorer:
    @scorer(metrics=[mean(), stderr()], name=name.replace(":", "."))
    def graded_by() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score | None:
            value = ran.values[str(state.sample_id)].get(name)
            return None if value is None else Score(value=value)

        return score

    return graded_by()


def run_labelled(
    judge: Judge, examples: Sequence[Labelled], log_folder: Path, replay: Mapping[str, Recorded] | None
) -> tuple[dict[str, dict[str, bool]], list[Recorded]]:
    """The judge's verdicts on labelled examples that it answered validly, by example; also its answers."""
    shown = {one.id: one.exhibit for one in examples}
    verdicts: dict[str, dict[str, bool]] = {}
    answers: list[Recorded] = []
    limiter = CapacityLimiter(judge.llm.concurrency)

    @solver(name="judge")
    def look() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            one = str(state.sample_id)
            found, answer = await anyio.to_thread.run_sync(lambda: judge.ask(shown[one], replay), limiter=limiter)
            verdicts[one] = found
            answers.append(answer)
            state.output.completion = answer.raw
            return state

        return solve

    samples = [Sample(id=one, input=shown[one].reading, metadata={}) for one in shown]
    [log] = inspect_eval(
        Task(dataset=MemoryDataset(samples), solver=look(), name="judge"),
        log_dir=str(log_folder),
        model=OFFLINE,
        fail_on_error=False,
        score=False,
        display="none",
        log_level="error",
        log_realtime=False,
        acp_server=False,
        ctl_server=False,
    )
    if log.status != "success":
        said = log.error.message if log.error is not None else log.status
        raise ProjectError(f"the judge could not be measured: {said}", where=log.location)
    failed = {str(sample.id): sample.error.message for sample in log.samples or [] if sample.error is not None}
    if not verdicts:
        raise ProjectError(
            f"the judge gave no valid answer to any of {len(failed)} labelled examples: {next(iter(failed.values()))}",
            where=log.location,
        )
    return verdicts, answers
