"""What the LLM is asked to answer: one closed pydantic model per task, apart from the loop's own words.

The fields stand in the order in which a model should write them: reasons before labels. ``parse_answer`` takes raw text
apart strictly; nothing is dug out of prose.
"""

from __future__ import annotations

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from rolegen_errors import ReasonerError
from rolegen_prompts import inline

from ..words import CorrectionKind, Direction, Operation, Role, Stage

_SHOWN_PROBLEMS = 12


def _one_line(limit: int) -> AfterValidator:
    # Texts of a model are data like any title: they return into later prompts, the memory and the trace.
    return AfterValidator(lambda text: str(inline(text, limit)))


Short = Annotated[str, _one_line(120)]
Reason = Annotated[str, _one_line(400)]
Price = Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""an id or a position: a number of thousands of digits would fill the message that refuses it"""


class Answer(BaseModel):
    """Base of all answer models: no unknown field, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class IntentAnswer(Answer):
    stage: Stage
    category: str | None
    need: Short


class LabelAnswer(Answer):
    event: Number
    evidence: list[Number]
    intent_before: IntentAnswer
    intent_after: IntentAnswer
    why: Reason
    role: Role
    confidence: Annotated[float, Field(ge=0.0, le=1.0)]


class ReasonAnswer(Answer):
    labels: Annotated[list[LabelAnswer], Field(min_length=1)]
    intent: IntentAnswer


class SpecAnswer(Answer):
    role: Role
    category: str | None
    price_low: Price | None
    price_high: Price | None
    text: Short


class PathAnswer(Answer):
    why: Reason
    operation: Operation
    replaces: Number | None
    intervention: SpecAnswer
    steps: Annotated[list[SpecAnswer], Field(max_length=3)]


class SimulateAnswer(Answer):
    paths: Annotated[list[PathAnswer], Field(min_length=1)]


class RevisedSpecAnswer(Answer):
    category: str | None
    price_low: Price | None
    price_high: Price | None
    text: Short


class RevisionAnswer(Answer):
    number: Number
    why: Reason
    spec: RevisedSpecAnswer | None


class ReviseAnswer(Answer):
    revisions: list[RevisionAnswer]


class CorrectionAnswer(Answer):
    detail: Reason
    kind: CorrectionKind
    path: Number | None
    event: Number | None


class ReflectAnswer(Answer):
    corrections: Annotated[list[CorrectionAnswer], Field(max_length=8)]
    lessons: Annotated[list[Reason], Field(max_length=2)]


class LessonAnswer(Answer):
    number: Number
    why: Reason
    text: Reason
    direction: Direction


class LearnAnswer(Answer):
    lessons: Annotated[list[LessonAnswer], Field(max_length=5)]


AnswerT = TypeVar("AnswerT", bound=Answer)


def parse_answer(raw: str, model: type[AnswerT]) -> AnswerT:
    """The validated answer in ``raw``, which may stand in one Markdown code block.

    Raises:
        ReasonerError: ``raw`` is no single JSON object, or does not fit ``model``; says every problem with its place.
    """
    text = _without_code_block(raw.strip())
    if not text:
        raise ReasonerError("the answer is empty")
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise ReasonerError(
            f"not valid JSON: {error.msg} at line {error.lineno} column {error.colno} of {len(text)} characters"
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, NaN, nesting without end
        raise ReasonerError(f"not usable JSON: {inline(str(error), 200)}") from None
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"{_place(one['loc'])}: {inline(one['msg'], 300)}" for one in found]
        raise ReasonerError(problem_list(lines)) from None


def problem_list(problems: list[str]) -> str:
    """Problems as lines, the first dozen in full and the rest counted."""
    shown = problems[:_SHOWN_PROBLEMS]
    if len(problems) > len(shown):
        shown = [*shown, f"and {len(problems) - len(shown)} more problems"]
    return "\n".join(f"- {line}" for line in shown)


def _without_code_block(text: str) -> str:
    lines = text.splitlines()
    if len(lines) >= 2 and lines[0].rstrip() in ("```", "```json") and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1]).strip()
    return text


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _place(loc: tuple[int | str, ...]) -> str:
    return inline(".".join(str(part) for part in loc), 120) or "the answer"
