"""The loop's questions, put to a model of inspect-ai: its connections, retries, cache and transcript do the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio.from_thread
import jsonref
from inspect_ai.model import (
    CachePolicy,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    ResponseSchema,
)
from inspect_ai.util import JSONSchema

from rolegen_agent.llm import Price
from rolegen_errors import InputError, ReasonerError
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt

from .answers import Recorded, request_digest
from .graders.grade import Asked

_NO_ANSWER = ("content_filter", "model_length")
_SPEAKERS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


class InspectAsker:
    """An ``Asker`` of the loop over an inspect-ai model; used in a worker thread of anyio, one for each decision.

    Args:
        structured: tell the endpoint the shape of the wanted answer.
        cache: answer an equal request from inspect's cache.
        price: what tokens cost; None leaves costs unknown.
        replay: recorded answers by request; nothing else is then asked.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str,
        structured: bool,
        cache: bool,
        price: Price | None,
        replay: Mapping[str, Recorded] | None,
    ) -> None:
        self._model, self._name, self._structured, self._price = model, name, structured, price
        self._replay = replay
        # Without an expiry: a suite must be repeatable next month, and a changed prompt is another request anyway.
        self._cache: bool | CachePolicy = CachePolicy(expiry=None) if cache else False
        self.asked: list[Asked] = []

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        request = request_digest(self._name, messages, schema)
        if self._replay is not None:
            known = self._replay.get(request)
            if known is None:
                raise InputError(
                    f"no answer is recorded for this request of prompt '{prompt.name}' version {prompt.version}",
                    where=f"round {site.round}, node {site.node}",
                    fix="prompt, cases or training changed: run the suite once with an endpoint, and keep its answers.jsonl",
                )
            self._note(prompt, request, known.raw, (known.input_tokens, known.output_tokens), 0.0, "")
            return known.raw
        output = anyio.from_thread.run(self._generate, task, messages, schema)
        usage = output.usage
        tokens = (usage.input_tokens, usage.output_tokens) if usage is not None else (0, 0)
        error = output.error or (output.stop_reason if output.stop_reason in _NO_ANSWER else "")
        self._note(prompt, request, output.completion, tokens, output.time or 0.0, error)
        if error:
            raise ReasonerError(f"the model gave no usable answer: {error}")
        return output.completion

    async def _generate(self, task: str, messages: Sequence[Message], schema: dict[str, Any]) -> ModelOutput:
        chat: list[ChatMessage] = [_SPEAKERS[one.role](content=one.content) for one in messages]
        config = GenerateConfig()
        if self._structured:
            shape = JSONSchema.model_validate(jsonref.replace_refs(schema, proxies=False, lazy_load=False))
            config = GenerateConfig(response_schema=ResponseSchema(name=task, json_schema=shape, strict=True))
        return await self._model.generate(chat, config=config, cache=self._cache)

    def _note(
        self, prompt: Prompt, request: str, raw: str, tokens: tuple[int, int], latency_s: float, error: str
    ) -> None:
        self.asked.append(
            Asked(
                prompt=prompt.name,
                version=prompt.version,
                input_tokens=tokens[0],
                output_tokens=tokens[1],
                cost_usd=self._price.cost(*tokens) if self._price is not None else None,
                latency_s=latency_s,
                request=request,
                raw=raw,
                error=error,
            )
        )
