"""Whether a prompt asks for an answer that the loop can read: its schema, the shape that it shows, the words that it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rolegen_errors import ReasonerError
from rolegen_prompts import Prompt

from ..words import ROLES
from .answers import parse_answer
from .schemas import TASKS

_BEGINS = re.compile(r"^\{(?=\s*\")", re.MULTILINE)
_USER = re.compile(r"^# User\s*$", re.MULTILINE)


def shape_of(prompt: Prompt) -> str | None:
    """The example answer in the text before ``# User``: the last JSON object that begins a line; None where none does."""
    system = _USER.split(prompt.body, maxsplit=1)[0]
    starts = [match.start() for match in _BEGINS.finditer(system)]
    return system[starts[-1] :].strip() if starts else None


def schema_problem(prompt: Prompt) -> str | None:
    """Why the loop could not use what the prompt declares as its output; None if it can."""
    if prompt.name not in TASKS or isinstance(prompt.output, Mapping):
        return None
    if prompt.output is not None and prompt.output != prompt.name:
        return f"its output is '{prompt.output}', where the loop reads '{prompt.name}'"
    shape = shape_of(prompt)
    if shape is None:
        return None
    try:
        parse_answer(shape, TASKS[prompt.name])
    except ReasonerError as error:
        return f"the answer that it shows as an example would be refused: {error.what}"
    return None


def left_unsaid(prompt: Prompt) -> list[str]:
    """What an answer needs and the text does not mention: an example of its shape, roles of the taxonomy."""
    if prompt.name not in TASKS:
        return []
    said = [] if shape_of(prompt) or isinstance(prompt.output, Mapping) else ["no example of the answer's shape"]
    if prompt.name in ("reason", "simulate"):
        missing = [role for role in ROLES if role not in prompt.body]
        said += [f"roles that it does not name: {', '.join(missing)}"] if missing else []
    return said
