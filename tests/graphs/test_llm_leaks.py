"""A model's texts that repeat the prompt are found; ordinary ones, and the data itself, are not taken for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from rolegen_errors import BudgetError, ReasonerError
from rolegen_graphs.llm import LlmReasoner
from rolegen_graphs.llm.leaks import Instructions
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt, PromptPack
from tests.support.observations import SITE, PlayedBack, make_observation
from tests.support.scripted_llm import answer

PROMPT = PromptPack.default().get("reason")
SYSTEM = PROMPT.render(**{name: 3 if name == "max_labels" else "x" for name in PROMPT.variables})[0].content
SENTENCE = "You do not recommend, rank or forecast. You are the first step of a loop, and labels are checked."
DATA = "one two three four five six seven eight nine ten eleven twelve thirteen"


def read(why: str, *, key: str = "note") -> dict[str, Any]:
    """A valid answer with one ``why`` of its own, and an unknown key if ``key`` is not the default."""
    body = {
        "messages": [{"role": "user", "content": "  [1] order, 1"}],
        "response_format": {"json_schema": {"name": "reason"}},
    }
    found = answer(body)
    found["labels"][0]["why"] = why
    return found if key == "note" else {**found, key: 1}


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        (SYSTEM, True),
        (" ".join(SYSTEM.split()[40:60]).upper().replace(",", " -"), True),
        ("a cheap first order that opened repeat buying, as the log's statistics say", False),
        ("replenishment: a habitual rebuy at roughly regular intervals", False),
        (DATA, False),
        ("", False),
    ],
)
def test_long_runs_of_the_instructions_are_told_from_ordinary_words(text: str, leaks: bool) -> None:
    instructions = Instructions([Message("system", SYSTEM), Message("user", f"See\n\n<<<lessons\n{DATA}\nlessons>>>")])
    assert instructions.repeated_in(text) is leaks


def test_the_models_own_turn_is_no_instruction() -> None:
    assert not Instructions([Message("assistant", DATA)]).repeated_in(DATA)
    assert Instructions([Message("user", DATA)]).repeated_in(DATA)


def test_an_answer_that_repeats_the_prompt_is_refused_and_the_message_does_not_repeat_it() -> None:
    leak = " ".join(SYSTEM.split()[:40])
    asker = PlayedBack(read(leak), read("fine", key=leak))
    with pytest.raises(ReasonerError) as caught:
        LlmReasoner(asker, model="m").reason(make_observation(), (), site=SITE)
    assert "labels.0.why: repeats the instructions word for word" in asker.asked[1][1][3].content
    assert "whose wording repeats the instructions" in str(caught.value)
    assert "functional role" not in str(caught.value)


@pytest.mark.parametrize("kind", [ReasonerError, BudgetError])
def test_a_refusal_that_repeats_the_prompt_is_left_out_of_the_trace(kind: type[ReasonerError]) -> None:
    class Refusing:
        def __init__(self, said: str) -> None:
            self.said = said

        def ask(
            self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
        ) -> str:
            raise kind(f"it refused: {self.said}", where="here", fix="another model")

    with pytest.raises(ReasonerError) as caught:
        LlmReasoner(Refusing(SYSTEM), model="m").reason(make_observation(), (), site=SITE)
    assert "repeats the instructions and is left out" in str(caught.value) and len(str(caught.value)) < 300
    with pytest.raises(kind, match="no thanks"):
        LlmReasoner(Refusing("no thanks"), model="m").reason(make_observation(), (), site=SITE)


def test_a_category_may_say_what_the_prompt_says() -> None:
    """It is copied from the data and checked against it: a shop whose category quotes a prompt is still served."""
    name = " ".join(SYSTEM.split()[:13])
    seen = make_observation()
    found = read("bought first")
    found["intent"]["category"] = name
    asker = PlayedBack(json.dumps(found))
    reading = LlmReasoner(asker, model="m", categories=lambda _: [name]).reason(seen, (), site=SITE)
    assert reading.intent.category == name
