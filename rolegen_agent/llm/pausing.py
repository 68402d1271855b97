"""An asker for runs that stop at their budget instead of going on with less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rolegen_errors import RunBudgetError, RunPausedError
from rolegen_graphs.llm import Asker
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt


class Pausing:
    """Where the budget of the run is spent, the decision waits, instead of the evidence reasoner standing in for good.

    A decision that waits is not recorded; what it asked so far stays in its checkpoint and in the call log, so that the
    run, once its limit is raised, becomes what it would have been without the stop.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        try:
            return self._asker.ask(task, messages, schema, site=site, prompt=prompt)
        except RunBudgetError as error:
            paused = RunPausedError(
                error.what,
                where=error.where,
                fix="raise that limit in [budget] and give the same command: it goes on, and pays nothing twice;"
                ' or set on_budget = "evidence" to let the evidence reasoner answer the rest',
            )
        raise paused
