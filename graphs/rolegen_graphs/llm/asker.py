"""The one thing the LLM reasoner needs from the world: somebody who puts a rendered prompt to a chat model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from rolegen_prompts import Message, Prompt

from ..words import CallSite


class Asker(Protocol):
    """Retries, budgets, the response cache and the record of the call are behind this port."""

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        """The raw text of the model's answer, exactly as it came; nobody has validated it.

        Args:
            task: what is asked for (``reason``, ``simulate``, ``revise``, ``reflect``); names the schema.
            messages: the rendered conversation.
            schema: JSON schema of the wanted answer, a hint that an endpoint may enforce or ignore.
            site: where in the loop the call is made.
            prompt: the prompt that rendered the last message: that of the task, or ``repair``.

        Raises:
            ReasonerError: the endpoint gave no answer (unreachable, refused, failed after retries).
            BudgetError: the call would exceed a budget and was not made.
        """
        ...
