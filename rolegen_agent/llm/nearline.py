"""Requests for OpenAI's Batch API instead of the wire: collected step by step, written as JSON lines, answers read back.

The format is that of https://platform.openai.com/docs/guides/batch: one JSON object a line with ``custom_id``, ``method``,
``url`` and ``body``; results come back in any order with ``custom_id``, ``response`` and ``error``. Here ``custom_id`` is
the request's hash, so that an answer finds its question wherever and whenever it comes back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from langchain_openai.chat_models.base import BaseChatOpenAI

from rolegen_errors import InputError, PausedError, ProjectError, ReasonerError, RunBudgetError, RunPausedError
from rolegen_graphs.ports import CallLog
from rolegen_graphs.words import CallSite, LlmCall
from rolegen_prompts import Message, Prompt, inline

from ..memory.calls import OUTSTANDING
from .client import LlmClient
from .request import Request

URL = "/v1/chat/completions"
MOST_LINES, MOST_BYTES = 50_000, 200_000_000
"""what one file may hold, by OpenAI's documentation"""
_FAILED = "no answer from a nearline batch: "
_TEXT = 500


class NearlineLog(CallLog, Protocol):
    """A call log that also knows calls without an answer."""

    def find_request(self, request_hash: str) -> tuple[LlmCall, str] | None:
        """The call with that hash, an answered one if there is one, and its run; None if there is none."""
        ...


class Collector:
    """An ``Asker`` that sends nothing: what memory does not know is collected as a line, and the decision waits.

    A question that failed in as many batches as the client would have sent it is given up, so that exports come to an
    end: the evidence reasoner stands in.
    """

    def __init__(self, client: LlmClient, log: NearlineLog, *, attempts: int, price_share: float = 1.0) -> None:
        if not isinstance(client.model, BaseChatOpenAI):
            raise ProjectError(
                f"a batch is in OpenAI's format, which {type(client.model).__name__} does not write",
                fix="use a model of [llm], or run online with `rolegen awaken`",
            )
        self._client, self._model, self._log = client, client.model, log
        self._attempts, self._price_share = attempts, price_share
        self._size = 0
        self.lines: dict[str, str] = {}
        """custom id -> line, without its end"""

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        request = self._client.request(task, messages, schema, site=site, prompt=prompt)
        known = self._client.recall(request)
        if known is not None:
            return known
        if request.hash not in self.lines:
            self._collect(request)
        raise PausedError(
            "its question stands in a nearline batch that is not answered yet",
            where=f"decision {site.decision}, round {site.round}, node {site.node}",
            fix="let the batch run, and read its results with `rolegen batch import`",
        )

    def _collect(self, request: Request) -> None:
        before, _ = self._log.find_request(request.hash) or (None, "")
        failures = 0 if before is None or not before.error.startswith(_FAILED) else before.retries + 1
        if before is not None and failures >= self._attempts:
            raise ReasonerError(f"{before.error} (batches: {failures})")
        line = json.dumps({"custom_id": request.hash, "method": "POST", "url": URL, "body": self.body(request)})
        self._size += len(line) + 1  # ASCII, whatever stands in the prompts
        if len(self.lines) >= MOST_LINES or self._size > MOST_BYTES:
            raise RunPausedError(
                f"the file is full: {len(self.lines):,} requests",
                fix="run this batch, import its results, export again",
            )
        if before is None or before.error != OUTSTANDING:
            self._reserve(request, failures)
        self.lines[request.hash] = line

    def _reserve(self, request: Request, failures: int) -> None:
        """Take the request from the budget, and note that it goes out; reading its answer settles what it really used."""
        client, expected = self._client, request.expected_tokens
        cost = None if client.price is None else self._price_share * client.price.cost(expected, client.output_reserve)
        try:
            client.budget.reserve(request.site.decision, expected + client.output_reserve, cost or 0.0)
        except RunBudgetError as error:
            raise RunPausedError(error.what, where=error.where, fix=error.fix) from None
        client.record(
            request,
            error=OUTSTANDING,
            input_tokens=expected,
            output_tokens=client.output_reserve,
            cost_usd=cost,
            retries=failures,
        )

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON body that the client would have sent for this request."""
        whole = self._model._get_request_payload(request.messages, **request.extra)
        whole.pop("stream", None)
        more = whole.pop("extra_body", None) or {}  # whose fields the client puts beside the others
        return {**whole, **more}


@dataclass(frozen=True)
class Result:
    """One line of a batch's results. ``error`` is empty where there is an answer."""

    custom_id: str
    raw: str = ""
    error: str = ""
    usage: tuple[int, int] | None = None
    """input and output tokens; None where the line does not say"""


def read_result(line: str) -> Result:
    """One line of an output or error file of the Batch API.

    Raises:
        InputError: the line is not of that format.
    """
    try:
        whole = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is no JSON: {inline(str(error), 120)}") from None
    custom_id = whole.get("custom_id") if isinstance(whole, dict) else None
    if not isinstance(custom_id, str) or not custom_id:
        raise InputError("it has no custom_id")
    if whole.get("error"):
        return Result(custom_id, error=_failed(whole["error"]))
    response = whole.get("response")
    body = response.get("body") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(body, dict):
        raise InputError("it has neither a response with a body nor an error")
    if response.get("status_code") != 200:
        return Result(custom_id, error=_failed({"status": response.get("status_code"), **body}))
    try:
        message = body["choices"][0]["message"]
        raw, refusal = message["content"] or "", message.get("refusal") or ""
    except (LookupError, TypeError, AttributeError):
        raise InputError("its response is no chat completion") from None
    if not isinstance(raw, str) or not isinstance(refusal, str):
        raise InputError("its content is no text")
    flaw = "" if raw else _failed(f"the model refused: {refusal}" if refusal else "the answer is empty")
    return Result(custom_id, raw=raw, error=flaw, usage=_usage(body.get("usage")))


def _failed(told: object) -> str:
    return _FAILED + inline(json.dumps(told, ensure_ascii=False), _TEXT)


def _usage(said: object) -> tuple[int, int] | None:
    """Tokens in and out, unless they are missing or impossible."""
    if not isinstance(said, dict):
        return None
    tokens = said.get("prompt_tokens"), said.get("completion_tokens")
    if not all(type(one) is int and 0 <= one < 2**40 for one in tokens) or not any(tokens):
        return None
    return int(tokens[0]), int(tokens[1])  # type: ignore[arg-type]
