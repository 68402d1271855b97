"""Whether a text gives away the wording of a prompt.

Titles can ask a model to print its instructions. What it answers is kept, shown to people and shown to later prompts, so
an answer that repeats the instructions word for word is refused like one with an invented event. Fewer than ``WORDS``
words in a row, a translation or a paraphrase are not recognised: what must stay secret has no place in a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from pydantic import BaseModel

from rolegen_prompts import Message

WORDS = 12
"""so many words in a row are a repetition; the prompts' own definitions of a role are shorter"""

_FENCED = re.compile(r"^<<<([a-z_]+)\n.*?\n\1>>>$", re.MULTILINE | re.DOTALL)
_WORD = re.compile(r"\w+")


class Instructions:
    """The wording of a conversation outside its data and outside the model's own turns."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._runs: set[tuple[str, ...]] = set()
        for message in messages:
            if message.role != "assistant":
                # Data is cut out rather than skipped: a run of words must not reach across it.
                for part in _FENCED.sub("\0", message.content).split("\0"):
                    self._runs.update(_runs(part))

    def repeated_in(self, text: str) -> bool:
        """Whether ``WORDS`` words in a row of ``text`` stand in the instructions too; case and punctuation aside."""
        return any(run in self._runs for run in _runs(text))

    def problems(self, answer: BaseModel) -> list[str]:
        """One sentence for each text of the answer that repeats the instructions."""
        return [
            f"{place}: repeats the instructions word for word; write about this customer in words of your own"
            for place, text in _texts(answer.model_dump(), "")
            if self.repeated_in(text)
        ]

    def without_repetition(self, lines: str) -> str:
        """``lines`` with every line replaced that repeats the instructions, for messages that quote an answer."""
        told = [
            "- (a problem whose wording repeats the instructions)" if self.repeated_in(line) else line
            for line in lines.split("\n")
        ]
        return "\n".join(told)


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words: Sequence[str] = _WORD.findall(text.casefold())
    return (tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1))


def _texts(value: object, place: str) -> Iterator[tuple[str, str]]:
    """Every text with its place, but for categories: those are copied from the data, and checked against it."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name != "category":
                yield from _texts(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{place}.{number}")
