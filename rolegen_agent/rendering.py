"""What an LLM would be sent about one user, prompt by prompt, without sending anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rolegen_errors import ReasonerError
from rolegen_graphs import create_decision_graph, decision_id
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt

from .batch import decide

if TYPE_CHECKING:
    from .assembly import Assembly


@dataclass(frozen=True)
class Rendered:
    """One question of the loop, as a model would get it."""

    site: CallSite
    prompt: Prompt
    messages: tuple[Message, ...]


class _Showing:
    """An ``Asker`` that keeps what it is to ask, and answers nothing."""

    def __init__(self) -> None:
        self.rendered: list[Rendered] = []

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        self.rendered.append(Rendered(site, prompt, tuple(messages)))
        raise ReasonerError("nothing was sent")


def render_questions(assembly: Assembly, user: str, at: datetime) -> list[Rendered]:
    """The questions of one decision, in order; the evidence reasoner's answers stand in for the model's.

    What only an answer would bring about is not among them: a repair, and the revision of specs that nobody proposed.

    Raises:
        ProjectError: no LLM is involved.
        InputError: the user has no event before ``at``.
    """
    showing = _Showing()
    graph = create_decision_graph(replace(assembly.asking(showing), memory=None), settings=assembly.settings).compile()
    decide(graph, user, at, decision_id(assembly.settings.run, user, at))
    return showing.rendered
