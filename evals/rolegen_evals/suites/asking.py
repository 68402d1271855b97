"""The loop's questions, put to a model of inspect-ai: its connections, retries, cache and transcript do the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

import anyio.from_thread
from inspect_ai.model import (
    CachePolicy,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    Model,
    ModelOutput,
    get_model,
)
from openai import OpenAIError

from rolegen_agent.llm import Price
from rolegen_agent.llm.failures import Redactor
from rolegen_agent.llm.request import response_format
from rolegen_agent.settings import LlmSettings
from rolegen_errors import InputError, ProjectError, ReasonerError
from rolegen_graphs.words import CallSite
from rolegen_prompts import Message, Prompt

from .answers import Recorded, request_digest
from .graders.grade import Asked

_NO_ANSWER = ("content_filter", "model_length")
_SPEAKERS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


class InspectAsker:
    """An ``Asker`` of the loop over an inspect-ai model; used in a worker thread of anyio, one for each decision.

    Args:
        llm: how the endpoint is told the shape of the wanted answer, and what else goes into a request.
        cache: answer an equal request from inspect's cache.
        price: what tokens cost; None leaves costs unknown.
        replay: recorded answers by request; nothing else is then asked.
        turn: held by the caller while it works, and given up while the model is waited for.
    """

    def __init__(
        self,
        model: Model,
        *,
        llm: LlmSettings,
        name: str,
        cache: bool,
        price: Price | None,
        replay: Mapping[str, Recorded] | None,
        turn: Lock | None = None,
    ) -> None:
        self._model, self._llm, self._name, self._price = model, llm, name, price
        self._replay, self._turn = replay, turn
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
        with _given_up(self._turn):
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
        # In the request's body as the product sends it: inspect's own way takes the schema apart, at 30 ms a question.
        shape = response_format(task, schema, self._llm.structured_output)
        config = GenerateConfig(extra_body={**shape, **self._llm.extra_body} or None)
        try:
            return await self._model.generate(chat, config=config, cache=self._cache)
        except (
            RuntimeError,
            OpenAIError,
        ) as error:  # inspect's message quotes the whole request, and an endpoint's may quote the key
            key = self._llm.api_key.get_secret_value() if self._llm.api_key else ""
            told = Redactor([key]).tell(error.__cause__ or error)
            raise ProjectError(f"the endpoint gave no answer to prompt '{task}': {told}") from None

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


@contextmanager
def _given_up(turn: Lock | None) -> Iterator[None]:
    if turn is None:
        yield
        return
    turn.release()
    try:
        yield
    finally:
        turn.acquire()


def model_of(llm: LlmSettings) -> Model:
    """The endpoint of ``llm``, which names a model, as a model of inspect-ai."""
    config = GenerateConfig(
        temperature=None if llm.temperature == "none" else llm.temperature,
        max_tokens=llm.max_output_tokens,
        seed=llm.seed,
        timeout=max(1, round(llm.timeout_s)),
        max_retries=llm.retries,
        max_connections=llm.concurrency,
    )
    key = llm.api_key.get_secret_value() if llm.api_key else "none"
    return get_model(f"openai-api/rolegen/{llm.model}", base_url=llm.base_url, api_key=key, config=config)
