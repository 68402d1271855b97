"""The LLM reasoner: the four questions of the loop and that of the outer loop, each rendered, asked, checked, and repaired
at most once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rolegen_errors import ProjectError, PromptError, ReasonerError
from rolegen_prompts import Message, Prompt, PromptPack

from ..words import (
    CallSite,
    Candidate,
    Correction,
    Effect,
    ItemSpec,
    Observation,
    Path,
    Reading,
    Reflection,
    Signal,
)
from .answers import (
    AnswerT,
    LearnAnswer,
    ReasonAnswer,
    ReflectAnswer,
    ReviseAnswer,
    SimulateAnswer,
    parse_answer,
    problem_list,
)
from .asker import Asker
from .categories import Offer, seen_categories
from .facts import Facts, of_lessons
from .leaks import Instructions
from .mapping import to_paths, to_reading, to_reflection, to_specs
from .schemas import answer_schema
from .sections import (
    corrections_text,
    lessons_text,
    outcomes_text,
    past_text,
    paths_text,
    proposals_text,
    reading_text,
    rejected_text,
    signals_text,
)
from .trajectory import Numbers, RenderedTrajectory, Statistics, render_trajectory

_FEWEST_TOKENS, _MOST_TOKENS = 200, 60_000


_View = tuple[RenderedTrajectory, Offer, Facts]


class _Views(threading.local):
    """What was drawn of the observation that this thread saw last, by token budget."""

    def __init__(self) -> None:
        self.seen: Observation | None = None
        self.drawn: dict[int, _View] = {}


class LlmReasoner:
    """A ``Reasoner`` that asks a chat model.

    The model proposes; it sees no item id, and nothing of its answer is used before ids, times, roles, categories and
    prices are checked. When a second answer is still invalid, ``ReasonerError`` says why, and the loop falls back.

    Args:
        asker: puts the rendered prompts to the model.
        model: the model's name, for the trace.
        prompts: the prompt pack; the default one if None.
        paths: counterfactual paths asked for (M), 1 to 12.
        max_labels: most role labels asked for.
        trajectory_tokens: budget of the rendered trajectory, in estimated tokens (200 to 60,000).
        categories: the categories that answers may name, best first; the trajectory's own if None.
        statistics: the log's evidence for the events of an observation, shown beside them; none if None.

    Raises:
        ProjectError: a number is out of its range.
    """

    def __init__(
        self,
        asker: Asker,
        *,
        model: str,
        prompts: PromptPack | None = None,
        paths: int = 4,
        max_labels: int = 12,
        trajectory_tokens: int = 3000,
        categories: Callable[[Observation], Sequence[str]] | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        for name, value, low, high in (
            ("paths", paths, 1, 12),
            ("max_labels", max_labels, 1, 60),
            ("trajectory_tokens", trajectory_tokens, _FEWEST_TOKENS, _MOST_TOKENS),
        ):
            if not low <= value <= high:
                raise ProjectError(f"{name} is {value}", fix=f"choose a number from {low} to {high}")
        self._asker, self._model = asker, model
        self._prompts = prompts or PromptPack.default()
        self._number_of_paths, self._max_labels, self._tokens = paths, max_labels, trajectory_tokens
        self._categories = categories or seen_categories
        self._statistics = statistics
        self._views = _Views()

    @property
    def name(self) -> str:
        return f"llm:{self._model}"

    def reason(self, seen: Observation, corrections: Sequence[Correction], *, site: CallSite) -> Reading:
        """Role labels of the events that matter, and the intent now."""
        trajectory, offer, facts = self._view(seen)
        answer = self._answer(
            "reason",
            ReasonAnswer,
            lambda one: facts.of_reading(one, most=self._max_labels),
            {
                "trajectory": trajectory.text,
                "categories": offer.render(),
                "lessons": lessons_text(seen.lessons),
                "past": past_text(seen.past),
                "corrections": corrections_text(corrections, seen.trajectory),
                "max_labels": self._max_labels,
            },
            site,
        )
        return to_reading(answer, seen.trajectory, offer)

    def simulate(
        self, seen: Observation, reading: Reading, corrections: Sequence[Correction], *, site: CallSite
    ) -> tuple[Path, ...]:
        """Diverse counterfactual paths from the present intent, numbered from 0."""
        trajectory, offer, facts = self._view(seen)
        answer = self._answer(
            "simulate",
            SimulateAnswer,
            lambda one: facts.of_paths(one, asked=self._number_of_paths),
            {
                "trajectory": trajectory.text,
                "reading": reading_text(reading, seen.trajectory),
                "categories": offer.render(),
                "lessons": lessons_text(seen.lessons),
                "corrections": corrections_text(corrections, seen.trajectory),
                "number_of_paths": self._number_of_paths,
            },
            site,
        )
        return to_paths(answer, seen.trajectory, offer)

    def revise(
        self, seen: Observation, rejected: Sequence[Candidate], *, site: CallSite
    ) -> tuple[ItemSpec | None, ...]:
        """One better spec for each rejected candidate, in order; None where the model gives up. No call for none."""
        if not rejected:
            return ()
        # The wording of specs needs the person's taste, not every event: a third of the budget.
        trajectory, offer, facts = self._view(seen, tokens=max(_FEWEST_TOKENS, self._tokens // 3))
        answer = self._answer(
            "revise",
            ReviseAnswer,
            lambda one: facts.of_revisions(one, asked=len(rejected)),
            {
                "trajectory": trajectory.text,
                "rejected": rejected_text(rejected),
                "categories": offer.render(),
            },
            site,
        )
        return to_specs(answer, rejected, offer)

    def reflect(
        self,
        seen: Observation,
        reading: Reading,
        paths: Sequence[Path],
        candidates: Sequence[Candidate],
        effects: Sequence[Effect],
        signals: Sequence[Signal],
        *,
        site: CallSite,
    ) -> Reflection:
        """Typed corrections and candidate lessons. Only events that the reading labels may be named."""
        numbers = Numbers(seen.trajectory)
        labelled = {number for label in reading.labels if (number := numbers.of(label.event)) is not None}
        facts = Facts(seen.trajectory, labelled, Offer(self._categories(seen)))
        answer = self._answer(
            "reflect",
            ReflectAnswer,
            lambda one: facts.of_reflection(one, paths={path.path for path in paths}),
            {
                "reading": reading_text(reading, seen.trajectory),
                "paths": paths_text(paths, candidates, effects, seen.trajectory),
                "signals": signals_text(signals, seen.trajectory),
                "lessons": lessons_text(seen.lessons),
            },
            site,
        )
        return to_reflection(answer, seen.trajectory)

    def learn(
        self, rows: Sequence[tuple[str, str]], proposed: Sequence[tuple[str, int]], *, site: CallSite
    ) -> tuple[tuple[int, bool, str], ...]:
        """Lessons from outcomes of many users: (place in ``rows``, whether to lead with it, text). No call without rows.

        Args:
            rows: what decisions led with, and what came of it, in words; counts only, nobody in particular.
            proposed: what reflection proposed in single decisions, and how often.
        """
        if not rows:
            return ()
        answer = self._answer(
            "learn",
            LearnAnswer,
            lambda one: of_lessons(one, rows=len(rows)),
            {"outcomes": outcomes_text(rows), "proposed": proposals_text(proposed)},
            site,
        )
        return tuple((one.number - 1, one.direction == "lead", one.text) for one in answer.lessons)

    def _view(self, seen: Observation, *, tokens: int | None = None) -> _View:
        # The questions of a decision show the same history: it is drawn once for each budget.
        size, views = tokens or self._tokens, self._views
        if views.seen is not seen:
            views.seen, views.drawn = seen, {}
        if size not in views.drawn:
            statistics = self._statistics(seen) if self._statistics else None
            trajectory = render_trajectory(seen.trajectory, tokens=size, statistics=statistics)
            offer = Offer(self._categories(seen))
            views.drawn[size] = trajectory, offer, Facts(seen.trajectory, trajectory.shown, offer)
        return views.drawn[size]

    def _answer(
        self,
        task: str,
        model: type[AnswerT],
        check: Callable[[AnswerT], list[str]],
        variables: Mapping[str, str | int],
        site: CallSite,
    ) -> AnswerT:
        """Ask, check, and on any violation show the model its answer and its errors once."""
        prompt = self._prompts.get(task)
        if isinstance(prompt.output, str) and prompt.output != task:
            raise PromptError(
                f"prompt '{task}' says its output is '{prompt.output}'",
                where=str(prompt.path),
                fix=f"write 'output: {task}', or an inline JSON schema",
            )
        schema = answer_schema(task) if not isinstance(prompt.output, Mapping) else dict(prompt.output)
        messages = prompt.render(**variables)
        instructions = Instructions(messages)
        raw = self._ask(task, messages, schema, instructions, site, prompt)
        try:
            return _checked(raw, model, check, instructions)
        except ReasonerError as flaw:
            problems = flaw.what
        repair = self._prompts.get("repair")
        messages = (*messages, *repair.render(answer=raw, problems=problems))
        instructions = Instructions(messages)
        raw = self._ask(task, messages, schema, instructions, site, repair)
        try:
            return _checked(raw, model, check, instructions)
        except ReasonerError as flaw:
            raise ReasonerError(
                f"{self.name} gave no valid answer to '{task}', not even after being shown its errors:\n{flaw.what}",
                where=f"decision {site.decision}, round {site.round}, node {site.node}",
                fix="the evidence reasoner can answer instead; a stronger model or another prompt may do better",
            ) from None

    def _ask(
        self,
        task: str,
        messages: Sequence[Message],
        schema: dict[str, Any],
        instructions: Instructions,
        site: CallSite,
        prompt: Prompt,
    ) -> str:
        """Ask; what a refusal or an endpoint's error says goes into the trace, so it may not repeat the prompt either."""
        try:
            return self._asker.ask(task, messages, schema, site=site, prompt=prompt)
        except ReasonerError as error:
            if not instructions.repeated_in(error.what):
                raise
            said = f"{self.name} gave no answer; what it said instead repeats the instructions and is left out"
            raise ReasonerError(said, where=error.where, fix=error.fix) from None


def _checked(
    raw: str, model: type[AnswerT], check: Callable[[AnswerT], list[str]], instructions: Instructions
) -> AnswerT:
    """The answer in ``raw``; ``ReasonerError`` lists all that is wrong with it, without repeating the instructions."""
    try:
        answer = parse_answer(raw, model)
    except ReasonerError as flaw:
        raise ReasonerError(instructions.without_repetition(flaw.what)) from None
    problems = [*check(answer), *instructions.problems(answer)]
    if problems:
        raise ReasonerError(instructions.without_repetition(problem_list(problems)))
    return answer
