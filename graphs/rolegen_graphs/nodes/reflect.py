"""``reflect``: typed corrections, then either another round or the end of the decision."""

from __future__ import annotations

from typing import Literal

from langgraph.types import Command

from ..gate import another_round
from ..parts import LoopSettings, Parts
from ..sources import reasoned
from ..state import DecisionState
from ..words import Answer, CallSite, Decision, Reflection, Round
from .reason import not_worth_it, time_of


class Reflect:
    """Closes the round; goes on only if there is something to correct, budget is left, and it can matter."""

    def __init__(self, parts: Parts, settings: LoopSettings) -> None:
        self.parts, self.settings = parts, settings

    def __call__(self, state: DecisionState) -> Command[Literal["reason", "__end__"]]:
        number, signals = state["number"], state["signals"]
        reflection, answers = Reflection(), list(state["answers"])
        if signals:
            site = CallSite(decision=state["key"], round=number, node="reflect")
            own = reasoned(state)  # it answers for what it proposed
            reflection, answer = self.parts.ask(
                "reflect",
                lambda reasoner: reasoner.reflect(
                    own["observation"],
                    own["reading"],
                    own["paths"],
                    own["candidates"],
                    own["effects"],
                    signals,
                    site=site,
                ),
                unless=not_worth_it(state),
            )
            answers.append(answer)
        rounds = [*state["rounds"], _close(state, reflection, answers)]
        if self._again(state, reflection):
            update: DecisionState = {
                "rounds": rounds,
                "number": number + 1,
                "corrections": list(reflection.corrections),
            }
            return Command(goto="reason", update=update)
        decision = self._decide(state, rounds)
        if self.parts.memory is not None:
            self.parts.memory.record(decision)
        return Command(goto="__end__", update={"rounds": rounds, "decision": decision})

    def _again(self, state: DecisionState, reflection: Reflection) -> bool:
        worth = state.get("worth")
        # A user without LLM rounds is decided by the fallback, whose rounds cost nothing worth saving.
        most = worth.rounds if worth is not None and worth.rounds else self.settings.rounds
        uncertain = another_round(state["slate"], self.settings.gate)
        return bool(reflection.corrections) and state["number"] < most and uncertain

    def _decide(self, state: DecisionState, rounds: list[Round]) -> Decision:
        names = {answer.reasoner for done in rounds for answer in done.answers}
        return Decision(
            decision=state["key"],
            run=self.settings.run,
            user=state["user"],
            at=time_of(state),
            observation=state["observation"],
            rounds=tuple(rounds),
            slate=state["slate"],
            slate_without_reasoning=state["baseline"],
            reasoner=names.pop() if len(names) == 1 else "mixed",
            worth=state.get("worth"),
        )


def _close(state: DecisionState, reflection: Reflection, answers: list[Answer]) -> Round:
    return Round(
        number=state["number"],
        reading=state["reading"],
        paths=tuple(state["paths"]),
        candidates=tuple(state["candidates"]),
        effects=tuple(state["effects"]),
        choices=tuple(state["choices"]),
        slate=state["slate"],
        signals=tuple(state["signals"]),
        reflection=reflection,
        answers=tuple(answers),
    )
