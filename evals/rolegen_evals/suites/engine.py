"""Running a suite with inspect-ai: its scheduling, cache, logs and viewer, with the decision graph as solver.

Finished cases of a stopped or killed run are kept in its log, and the same command goes on with the others. A grader that
raises fails its case, visibly, and not the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio import CapacityLimiter
from inspect_ai import Task, eval_set
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.log import EvalLog, read_eval_log
from inspect_ai.model import GenerateConfig, Model, get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from rolegen_agent import RoleGen
from rolegen_agent.assembly import Assembly, price
from rolegen_errors import InputError, ProjectError
from rolegen_graphs import Parts, create_decision_graph
from rolegen_graphs.words import CallSite, Decision, Observation, Reading

from .answers import Recorded
from .asking import InspectAsker
from .cases import Case
from .graders import GRADERS, Graded, Grader
from .retelling import RETELLINGS
from .suite import Suite

if TYPE_CHECKING:
    from rolegen_agent.llm import Price

OFFLINE = "mockllm/model"
"""inspect wants a model; where the evidence reasoner answers, this one is never asked"""


@dataclass(frozen=True)
class _Pinned:
    """An observer that knows one case."""

    seen: Observation

    def observe(self, user: str, at: datetime) -> Observation:
        if (user, at) != (self.seen.trajectory.user, self.seen.trajectory.at):
            raise InputError("the case is of another decision", where=f"user {user}, at {at.isoformat()}")
        return self.seen


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

    @property
    def llm(self) -> bool:
        return self.shop.project.settings.reasoner.kind == "llm"

    def model(self) -> str | Model:
        """The project's endpoint as a model of inspect-ai; whatever inspect itself knows (``openai/…``) works too."""
        llm = self.shop.project.settings.llm
        if not self.llm or self.replay is not None:
            return OFFLINE
        if llm.model is None:
            raise ProjectError("the LLM reasoner has no model", fix="set OPENAI_MODEL, or pass --model NAME")
        config = GenerateConfig(
            temperature=None if llm.temperature == "none" else llm.temperature,
            max_tokens=llm.max_output_tokens,
            seed=llm.seed,
            timeout=max(1, round(llm.timeout_s)),
            max_retries=llm.retries,
            max_connections=llm.concurrency,
            extra_body=llm.extra_body or None,
        )
        key = llm.api_key.get_secret_value() if llm.api_key else "none"
        return get_model(f"openai-api/rolegen/{llm.model}", base_url=llm.base_url, api_key=key, config=config)


def run_suite(setup: Setup, cases: Sequence[Case], log_folder: Path, *, progress: bool) -> EvalLog:
    """Decide on every case and grade it; what the log holds already is not done again.

    Args:
        log_folder: the run's own; another configuration needs another one.
        progress: draw inspect's progress on the terminal.

    Raises:
        InputError: cases of another training.
        ProjectError: some cases could not be run; the same command tries them again.
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
    graded: dict[str, Graded] = {}
    by_id = {case.case: case for case in cases}
    task = Task(
        dataset=MemoryDataset([_sample(case) for case in cases]),
        solver=_decide(setup, by_id, assemblies, graded),
        scorer=[_score(GRADERS[name], graded) for name in setup.suite.graders],
        name="decisions",
        fail_on_error=False,
    )
    finished, logs = eval_set(
        task,
        log_dir=str(log_folder),
        model=setup.model(),
        max_samples=setup.at_once,
        max_connections=setup.at_once,
        retry_attempts=0,
        fail_on_error=False,
        display="rich" if progress else "none",
        log_level="warning",
        log_buffer=10,
    )
    log = read_eval_log(logs[0].location)
    if not finished or log.status != "success":
        said = log.error.message if log.error is not None else log.status
        raise ProjectError(
            f"the run did not end: {said}", where=log.location, fix="the same command goes on with what is left"
        )
    return log


def values(log: EvalLog) -> dict[str, dict[str, float]]:
    """By case, by grader: what was measured. Cases that failed and graders that had nothing to say are left out."""
    found: dict[str, dict[str, float]] = {}
    for sample in log.samples or []:
        if sample.error is None:
            scores = (sample.scores or {}).items()
            found[str(sample.id)] = {name: one.as_float() for name, one in scores if isinstance(one.value, int | float)}
    return found


def failures(log: EvalLog) -> dict[str, str]:
    """By case: why it could not be decided on or graded."""
    return {str(sample.id): sample.error.message for sample in log.samples or [] if sample.error is not None}


def _sample(case: Case) -> Sample:
    return Sample(id=case.case, input=f"user {case.user} at {case.at.isoformat()}", metadata={"strata": case.strata})


@solver(name="decision")
def _decide(
    setup: Setup, cases: Mapping[str, Case], assemblies: Mapping[datetime, Assembly], graded: dict[str, Graded]
) -> Solver:
    cost = price(setup.shop.project)
    limiter = CapacityLimiter(setup.at_once)

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        case = cases[str(state.sample_id)]
        model = get_model()  # the one of this evaluation; it lives in the event loop's context, not in the thread's
        found = await anyio.to_thread.run_sync(
            lambda: _taken(setup, assemblies[case.at], case, model, cost), limiter=limiter
        )
        graded[case.case] = found
        state.output.completion = ", ".join(item.title for item in found.decision.slate.items)
        state.metadata["answers"] = [
            Recorded(
                request=one.request, raw=one.raw, input_tokens=one.input_tokens, output_tokens=one.output_tokens
            ).model_dump()
            for one in found.asked
            if not one.error
        ]
        state.metadata["decision"] = found.decision.model_dump(mode="json", exclude={"observation"})
        return state

    return solve


def _taken(setup: Setup, assembly: Assembly, case: Case, model: Model, cost: Price | None) -> Graded:
    """One decision on a pinned case; runs in a thread of its own."""
    llm = setup.shop.project.settings.llm
    asker = InspectAsker(
        model,
        name=llm.model or "",
        structured=llm.structured_output != "off",
        cache=setup.cache,
        price=cost,
        replay=setup.replay,
    )
    parts = assembly.asking(asker) if setup.llm else assembly.parts
    parts = replace(parts, observer=_Pinned(case.observation), memory=None)
    graph = create_decision_graph(parts, settings=assembly.settings).compile()
    decision = graph.invoke({"user": case.user, "at": case.at})["decision"]
    assert isinstance(decision, Decision)
    asked = tuple(asker.asked)
    evidence = parts.evidence if parts.evidence is not None else parts.reasoner
    beliefs = evidence.beliefs(case.observation) if hasattr(evidence, "beliefs") else {}
    return Graded(case, decision, asked, beliefs, _retold(setup, parts, case, decision))


def _retold(setup: Setup, parts: Parts, case: Case, decision: Decision) -> dict[str, Reading]:
    site = CallSite(decision=decision.decision, round=1, node="reason")

    def read(seen: Observation) -> Reading:
        return parts.ask("reason", lambda reasoner: reasoner.reason(seen, (), site=site))[0]

    return {name: read(RETELLINGS[name](case.observation)) for name in setup.suite.retellings}


def _score(grader: Grader, graded: Mapping[str, Graded]) -> Scorer:
    @scorer(metrics=[mean(), stderr()], name=grader.name)
    def graded_by() -> Scorer:
        async def score(state: TaskState, target: Target) -> Score | None:
            value = grader.grade(graded[str(state.sample_id)])
            return None if value is None else Score(value=value)

        return score

    return graded_by()
