"""The one boundary to a chat model: cache, budget, retries, concurrency, usage and the record of every call.

A question is answered from the call log when an equal request has been answered before; of equal requests at the same
time one is sent, and the others wait for its answer. Otherwise it is reserved in the budget, sent, retried here and
nowhere else, and recorded whether it succeeded or not. The model is invoked in the caller's thread and context, so
callbacks and ``stream_mode="messages"`` of a surrounding graph see it; ``"custom"`` shows each call as it ends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Lock
from typing import Any

import openai
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from rolegen_errors import BudgetError, ProjectError, ReasonerError
from rolegen_graphs.ports import CallLog
from rolegen_graphs.words import CallSite, LlmCall
from rolegen_prompts import Message, Prompt, estimate_tokens

from .budget import Budget, Ledger, Limits, Reservation
from .failures import FAILURES, Redactor, advice, may_pass, retry_after_s
from .prices import Price
from .progress import tell
from .request import Parameters, Request, StructuredOutput, make_request
from .slots import Slots
from .turns import Claim, Turns
from .usage import RunUsage


@dataclass(frozen=True)
class _Reply:
    raw: str
    refusal: str
    input_tokens: int
    output_tokens: int
    estimated: bool


@dataclass
class _Trail:
    """What the attempts of one question left behind."""

    attempts: int = 0
    latency_s: float = 0.0
    """of the last attempt"""
    taken: Reservation | None = None
    """in the budget, by the attempt that brought the answer"""

    @property
    def facts(self) -> dict[str, Any]:
        """as the record of the call tells them"""
        return {"latency_s": self.latency_s, "retries": max(0, self.attempts - 1)}


class LlmClient:
    """An ``Asker`` over any langchain-core chat model. Safe for use from several threads.

    Args:
        model: built with ``chat_model``, or any other chat model; its own retries should be off.
        name: the model's name, as the trace and the price table know it.
        log: remembers calls and answers repeated ones.
        limits: hard budgets; none by default.
        ledger: sums up what budgets count; None keeps the sums in this process, and they end with it.
        price: of this model; None means unknown, and then costs are None too.
        parameters: everything else that shapes an answer (temperature, seed, ...); part of the request's hash. Taken
            from the model if None.
        retries: further requests for one question after a failed one.
        longest_wait_s: bound of one pause between attempts. An endpoint that asks for more gets no further attempt.
        concurrency: most requests under way at a time.
        output_reserve: tokens that one answer is expected to need at most; reserved in the budget beforehand.
        structured_output: how the schema is handed to the endpoint; ``off`` leaves it to the prompt alone.
        cache: answer repeated requests from ``log``, and of equal ones at the same time send one.
        claim: makes that hold for other programs too, see ``Memory.claimed``; None: in this process alone.
        sleep: waits between attempts.

    Raises:
        ProjectError: a budget in dollars is set, but the model's price is not known.
    """

    def __init__(
        self,
        model: BaseChatModel,
        *,
        name: str,
        log: CallLog,
        limits: Limits | None = None,
        ledger: Ledger | None = None,
        price: Price | None = None,
        parameters: Parameters | None = None,
        retries: int = 3,
        longest_wait_s: float = 60.0,
        concurrency: int = 4,
        output_reserve: int = 2000,
        structured_output: StructuredOutput = "json_schema",
        cache: bool = True,
        claim: Claim | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        limits = limits or Limits()
        if limits.in_dollars and price is None:
            raise ProjectError(
                f"a budget in dollars is set, but the price of model '{name}' is not known",
                fix="give its price per million tokens ([llm] input_usd_per_million and output_usd_per_million, 0 for a"
                " local model), or limit calls or tokens instead",
            )
        if retries < 0 or concurrency < 1:
            raise ProjectError(f"retries is {retries} and concurrency {concurrency}", fix="use at least 0 and 1")
        self.name, self.model, self.budget = name, model, Budget(limits, ledger)
        self.log, self.price = log, price
        self._parameters = parameters if parameters is not None else _parameters_of(model)
        self._slots = Slots(concurrency)
        self.output_reserve, self._structured, self._cache = output_reserve, structured_output, cache
        self._turns = Turns(claim)
        self._redact = Redactor.of(model)
        self._retries, self._longest_wait_s, self._sleep = retries, longest_wait_s, sleep
        self._backoff = wait_random_exponential(multiplier=0.5, max=longest_wait_s)
        self._lock = Lock()
        self._usage = RunUsage(cost_usd=None if price is None else 0.0)

    @property
    def usage(self) -> RunUsage:
        """What this client has used so far."""
        with self._lock:
            return self._usage

    def ask(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> str:
        """The raw text of the answer; see ``rolegen_graphs.llm.Asker``."""
        request = self.request(task, messages, schema, site=site, prompt=prompt)
        if not self._cache:
            return self._send(request)
        with self._turns.of(request.hash):
            known = self.recall(request)
            return self._send(request) if known is None else known

    def request(
        self, task: str, messages: Sequence[Message], schema: dict[str, Any], *, site: CallSite, prompt: Prompt
    ) -> Request:
        """The question as it would be sent."""
        return make_request(
            task,
            messages,
            schema,
            site=site,
            prompt=prompt,
            model=self.name,
            parameters=self._parameters,
            structured=self._structured,
        )

    def recall(self, request: Request) -> str | None:
        """The remembered answer of an equal request, counted and recorded as free; None if there is none."""
        known = self.log.find_call(request.hash)
        if known is None or not known.raw:
            return None
        self._count(cached=1)
        if known.site == request.site:  # a resumed decision finds its own call: that record says what was paid
            tell("cached", known)
        else:
            self.record(request, raw=known.raw, cached=True, cost_usd=0.0)
        return known.raw

    def _send(self, request: Request) -> str:
        """Send with retries, record what came of it, and raise free of the provider's exception.

        A provider's exception may quote the key or hold the request's headers, so none is ever chained or shown.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self._retries + 1),
            retry=retry_if_exception(self._worth_another),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        trail = _Trail()
        reply: _Reply | None = None
        spent: BudgetError | None = None
        told = fix = ""
        try:
            reply = retrying(self._once, request, trail)
        except BudgetError as error:
            spent = type(error)(error.what, where=error.where, fix=error.fix)
        except FAILURES as error:
            told, fix = self._redact.tell(error), advice(error)

        self._count(requests=trail.attempts, retries=max(0, trail.attempts - 1))
        if reply is not None:
            self._keep(
                request, trail, reply
            )  # the answer first: what is paid must not be lost to a database that fails
            if trail.taken is not None:
                tokens_in, tokens_out = reply.input_tokens, reply.output_tokens
                self.budget.settle(trail.taken, tokens_in + tokens_out, self._cost(tokens_in, tokens_out) or 0.0)
            if reply.raw or not reply.refusal:
                return reply.raw
            told = f"it refused: {reply.refusal[:400]}"
            fix = "another model or another prompt may answer; the evidence reasoner always does"
        elif spent is not None:
            if trail.attempts:  # stopped between two attempts: the first one did happen
                self._count(failed=1)
                self.record(request, **trail.facts, error=spent.what)
            raise spent
        else:
            self._count(failed=1)
            self.record(request, **trail.facts, error=told)
        raise ReasonerError(
            f"model '{self.name}' gave no answer (attempts: {trail.attempts}): {told}",
            where=f"decision {request.site.decision}, round {request.site.round}, node {request.site.node}",
            fix=fix,
        )

    def _once(self, request: Request, trail: _Trail) -> _Reply:
        """One request over the wire, reserved in the budget before; one that brings no answer gives its room back."""
        expected, reserve = request.expected_tokens, self.output_reserve
        with self._slots.taken(request.site):
            taken = self.budget.reserve(request.site.decision, expected + reserve, self._cost(expected, reserve) or 0.0)
            trail.attempts += 1
            began = time.perf_counter()
            try:
                reply = self._invoke(request)
            except BaseException:
                self.budget.settle(taken, 0, 0.0)
                raise
            finally:
                trail.latency_s = time.perf_counter() - began
        trail.taken = taken
        return reply

    def _invoke(self, request: Request) -> _Reply:
        usage: tuple[int, int] | None = None
        raw = refusal = ""
        try:
            message = self.model.invoke(request.messages, config=request.config, **request.extra)
        except openai.LengthFinishReasonError as error:
            # Cut off at the token limit. What came is an answer like any other: its reader will find it wanting.
            raw = error.completion.choices[0].message.content or ""
            if error.completion.usage:
                usage = error.completion.usage.prompt_tokens, error.completion.usage.completion_tokens
        else:
            raw, refusal = str(message.text), str(message.additional_kwargs.get("refusal") or "")
            if isinstance(message, AIMessage) and message.usage_metadata:
                usage = message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]
        estimated = usage is None or not any(usage) or min(usage) < 0  # what an endpoint says must not free a budget
        if usage is None or estimated:
            usage = request.expected_tokens, estimate_tokens(raw + refusal)
        return _Reply(self._redact(raw), self._redact(refusal), *usage, estimated)

    def _keep(self, request: Request, trail: _Trail, reply: _Reply) -> None:
        """Count and record an answer. A refusal and an empty answer are paid for, but no later request gets them."""
        cost = self._cost(reply.input_tokens, reply.output_tokens)
        self._count(
            answered=1,
            estimated=int(reply.estimated),
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cost_usd=cost,
        )
        error = "" if reply.raw else f"the model refused: {reply.refusal}" if reply.refusal else "the answer is empty"
        self.record(
            request,
            **trail.facts,
            raw=reply.raw,
            error=error,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            cost_usd=cost,
        )

    def record(
        self,
        request: Request,
        *,
        raw: str = "",
        error: str = "",
        input_tokens: int = 0,
        output_tokens: int = 0,
        cost_usd: float | None = None,
        latency_s: float = 0.0,
        retries: int = 0,
        cached: bool = False,
    ) -> None:
        """Note in the call log what became of a request."""
        call = LlmCall(
            site=request.site,
            request_hash=request.hash,
            prompt=request.prompt.name,
            prompt_version=str(request.prompt.version),
            prompt_hash=request.prompt.sha256,
            model=self.name,
            messages=self._redact(request.text),
            raw=raw,
            error=error,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cost_usd=cost_usd,
            latency_s=latency_s,
            retries=retries,
            cached=cached,
            at=datetime.now(UTC),
        )
        self.log.record_call(call)
        tell("cached" if cached else "failed" if error else "answered", call)

    def _count(self, *, cost_usd: float | None = None, **more: int) -> None:
        with self._lock:
            total = self._usage
            added = {name: getattr(total, name) + number for name, number in more.items()}
            if total.cost_usd is not None and cost_usd is not None:
                total = replace(total, cost_usd=total.cost_usd + cost_usd)
            self._usage = replace(total, **added)

    def _cost(self, input_tokens: int, output_tokens: int) -> float | None:
        return None if self.price is None else self.price.cost(input_tokens, output_tokens)

    def _worth_another(self, error: BaseException) -> bool:
        return may_pass(error) and (retry_after_s(error) or 0.0) <= self._longest_wait_s

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = retry_after_s(error) if error else None
        return self._backoff(state) if asked is None else asked


def _parameters_of(model: BaseChatModel) -> Parameters:
    """The parameters by which a model identifies itself; objects (clients, callables) have no stable text."""
    found: dict[str, str | int | float | bool | None] = {}
    for name, value in model._identifying_params.items():
        if isinstance(value, str | int | float | bool | None):
            found[name] = value
        elif isinstance(value, Mapping | list | tuple):
            found[name] = json.dumps(value, sort_keys=True, default=lambda one: type(one).__qualname__)
    return found
