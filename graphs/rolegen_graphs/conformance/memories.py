"""The rules of a :class:`~rolegen_graphs.ports.Memory` and a :class:`~rolegen_graphs.ports.CallLog`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from ..ports import CallLog, Memory
from ..words import CallSite, Decision, LlmCall
from .rules import Rules

THREADS = 4
AT = datetime(2011, 9, 1, tzinfo=UTC)


def check_memory(memory: Memory, *, decisions: Sequence[Decision]) -> None:
    """Hold a memory against its rules. It is written to: give it an empty one.

    - It takes every decision, the same one again, and the same one from several threads at a time.
    - Where it can ``get`` a decision by its id, it gives back what was recorded.

    Args:
        decisions: of yours, for instance from ``RoleGen.decide`` on another memory.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    with Rules(memory) as rules:
        for one in decisions:
            rules.ask(f"to record {one.decision!r}", memory.record, one)
            rules.ask("to record it again", memory.record, one)
        with ThreadPoolExecutor(THREADS) as pool:
            often = [one for one in decisions for _ in range(THREADS)]
            rules.ask("to record from several threads", lambda: list(pool.map(memory.record, often)))
        if (read := getattr(memory, "get", None)) is not None:
            for one in decisions:
                rules.hold("gives back what was recorded", rules.ask("for a decision", read, one.decision) == one)


def check_call_log(log: CallLog) -> None:
    """Hold a log of LLM calls against its rules. It is written to: give it an empty one.

    - An unknown request has no call, and neither has one that only failed.
    - An answer is found by its request's hash, with every field; the latest where there are several.
    - The same call again changes nothing.

    Raises:
        ConformanceError: with every rule that does not hold.
    """
    failed, answered = _call("failed", raw="", error="the server said no"), _call("first")
    later = _call("later", raw="another answer", at=AT + timedelta(minutes=1))
    with Rules(log) as rules:
        key = answered.request_hash
        rules.hold("knows nothing of an unknown request", rules.ask("what it never saw", log.find_call, key) is None)
        rules.ask("to record a failed call", log.record_call, failed)
        rules.hold("a failed call is no answer", rules.ask("for a failed call", log.find_call, key) is None)
        for _ in range(2):
            rules.ask("to record a call, and again", log.record_call, answered)
            rules.hold("an answer is found, with every field", rules.ask("for a call", log.find_call, key) == answered)
        rules.ask("to record a later one", log.record_call, later)
        rules.hold("the latest answer is found", rules.ask("for the latest", log.find_call, key) == later)


def _call(decision: str, *, raw: str = "an answer", error: str = "", at: datetime = AT) -> LlmCall:
    return LlmCall(
        site=CallSite(decision=f"conformance {decision}", round=1, node="reason"),
        request_hash=hashlib.sha256(b"conformance").hexdigest(),
        prompt="reason",
        prompt_version="1",
        prompt_hash=hashlib.sha256(b"prompt").hexdigest(),
        model="conformance",
        messages='[{"role": "user", "content": "?"}]',
        raw=raw,
        error=error,
        input_tokens=3,
        output_tokens=2,
        latency_s=0.5,
        at=at,
    )
