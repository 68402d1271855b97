"""Decisions on cases with any pack of prompts, through the product's own LLM client: its retries, budget and remembered answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from rolegen_agent.assembly import Assembly
from rolegen_errors import ReasonerError
from rolegen_graphs import create_decision_graph
from rolegen_graphs.llm import Asker
from rolegen_graphs.words import CallSite, Decision
from rolegen_prompts import Message, Prompt, PromptPack, estimate_tokens

from ..suites.cases import Case
from ..suites.graders.grade import Asked, Graded
from ..suites.pinned import Pinned


class NotingAsker:
    """Notes what was asked and answered on the way to ``asker``; tokens are estimated, so that a repeated run notes the same."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.asked: list[Asked] = []

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        sent = sum(estimate_tokens(one.content) for one in messages)
        try:
            raw = self._asker.ask(task, messages, schema, site=site, prompt=prompt)
        except ReasonerError as error:
            self._note(prompt, sent, "", error.what)
            raise
        self._note(prompt, sent, raw, "")
        return raw

    def _note(self, prompt: Prompt, sent: int, raw: str, error: str) -> None:
        answered = estimate_tokens(raw)
        self.asked.append(Asked(prompt.name, prompt.version, sent, answered, None, 0.0, raw=raw, error=error))


@dataclass(frozen=True)
class Deciding:
    """Takes decisions on cases."""

    assemblies: Mapping[datetime, Assembly]
    """by decision time"""
    asker: Asker
    at_once: int

    def decide(self, cases: Sequence[Case], prompts: PromptPack) -> list[Graded]:
        """In the order of ``cases``.

        Raises:
            RunPausedError: the budget is spent; what was answered is remembered.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            return list(pool.map(lambda case: self._one(case, prompts), cases))

    def _one(self, case: Case, prompts: PromptPack) -> Graded:
        assembly, asker = self.assemblies[case.at], NotingAsker(self.asker)
        parts = replace(assembly.asking(asker, prompts=prompts), observer=Pinned(case.observation), memory=None)
        graph = create_decision_graph(parts, settings=assembly.settings).compile()
        decision = graph.invoke({"user": case.user, "at": case.at})["decision"]
        assert isinstance(decision, Decision)
        evidence = parts.evidence
        return Graded(case, decision, tuple(asker.asked), evidence.beliefs(case.observation) if evidence else {})
