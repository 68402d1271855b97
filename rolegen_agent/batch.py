"""Awaken many users: bounded side by side, resumable, stopped cleanly.

The unit of resumption is the decision. What memory holds already is not decided again; a decision that was killed half
way goes on from its LangGraph checkpoint. Ctrl-C lets the decisions under way finish and starts no more. At a limit
of the run's LLM budget no more start either, and those under way wait at their checkpoints until the limit is raised.

Several commands may work on one run: each decision is claimed in the memory while it is made, and who comes second takes
other users first. A claim ends with the process that holds it, so that the others take over what a killed one had begun. A
database server that goes away is waited for, for a while; then the batch ends with an error, and the same command goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from langchain_core.runnables import RunnableConfig
from tenacity import sleep_using_event, stop_when_event_set

from rolegen_errors import PausedError, ProjectError, RunPausedError
from rolegen_graphs import LoopSettings, Parts, create_decision_graph, decision_id
from rolegen_graphs.words import Decision

from .llm.usage import RunUsage
from .telemetry import decision_span, earlier_span, tracing

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from .allocation import Allocation
    from .llm import LlmClient
    from .memory import Memory

AHEAD = 64
"""users whose slates without reasoning are computed together"""
PAUSE_S = 0.2
"""between two looks at users whom another command is at"""
Turn = Decision | Literal["claimed", "recorded"]
"""what became of a user whose turn it was: decided, another command is at it, or another command was"""


def under_way(concurrency: int) -> int:
    """Decisions to have under way so that ``concurrency`` requests are: some are always between two requests."""
    return concurrency + max(2, concurrency // 2)


class Assembled(Protocol):
    """What a batch needs of an :class:`rolegen_agent.assembly.Assembly`."""

    @property
    def parts(self) -> Parts: ...

    @property
    def settings(self) -> LoopSettings: ...

    @property
    def client(self) -> LlmClient | None: ...

    @property
    def allocation(self) -> Allocation | None: ...


@runtime_checkable
class Preparing(Protocol):
    """A recommender that is faster when it makes the slates without reasoning of many users at once."""

    def prepare(self, users: Sequence[str], at: datetime, size: int) -> None:
        """Compute them; the next ``slate`` call of each user takes its own."""
        ...


@dataclass(frozen=True)
class AwakenReport:
    """What a batch did. ``wanted = earlier + decided + left``."""

    run: str
    wanted: int
    earlier: int
    """decisions that memory held already when their turn came, whichever command made them"""
    decided: int
    left: int
    """not reached, because the batch was stopped; those that wait half way included"""
    fallbacks: int
    """decisions in which the evidence reasoner stood in because the LLM could not answer"""
    sure: int
    """decisions that cost no call, because the gate or the LLM budget granted the user none"""
    calls: int
    """questions that were put to the LLM now, answered or not"""
    cached: int
    """answers that memory knew already: nothing was sent or paid for them"""
    failed_calls: int
    tokens: int
    cost_usd: float | None
    """None when the model's price is not known"""
    seconds: float
    stopped: bool
    waiting: int = 0
    """of those left: begun, and waiting for the run's budget or for the answers of a nearline batch"""
    budget_met: str = ""
    """which limit of the run stopped it, and what it was; empty if none did"""
    allocation: Allocation | None = None
    """how an LLM budget was shared out, if one was given"""


def awaken(
    assembly: Assembled,
    memory: Memory,
    users: Sequence[str],
    at: datetime,
    *,
    workers: int,
    checkpoints: str | Path | None,
    keep_checkpoints: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
    parts: Parts | None = None,
) -> AwakenReport:
    """Decide on ``users`` at ``at``; each decision is in memory when it is done.

    Args:
        parts: instead of those of ``assembly``, for instance with a reasoner that pauses at a limit.
        workers: decisions under way at the same time.
        checkpoints: where LangGraph keeps the state of decisions under way; None keeps none, which suits the evidence
            reasoner: its decisions take milliseconds, so a killed one is simply made again.
        stop: set by the caller (for instance on Ctrl-C) to end after the decisions under way.

    Raises:
        RoleGenError: of the first decision that failed; decisions under way are finished and kept first.
    """
    started = time.perf_counter()
    run, wanted = assembly.settings.run, list(dict.fromkeys(users))
    recorded = memory.recorded([decision_id(run, user, at) for user in wanted])
    todo = [user for user in wanted if decision_id(run, user, at) not in recorded]
    earlier, halted = len(wanted) - len(todo), stop or Event()
    done, fallbacks, sure, waiting, budget_met = 0, 0, 0, 0, ""
    before = assembly.client.usage if assembly.client else RunUsage()
    progress(earlier, len(wanted))
    with ExitStack() as stack:
        saver = None
        if checkpoints is not None:
            from .memory.checkpoints import checkpoint_errors, forget, open_checkpointer, threads

            where = "the checkpoints of this batch"
            saver = stack.enter_context(open_checkpointer(checkpoints, outage_s=memory.outage_s))
            if not keep_checkpoints:
                with checkpoint_errors(where):  # of decisions whose process was killed after it had recorded them
                    for thread in memory.recorded(threads(saver)):
                        forget(saver, thread)
        graph = create_decision_graph(parts or assembly.parts, settings=assembly.settings).compile(checkpointer=saver)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decision"))
        futures: dict[Future[Turn], str] = {}
        error: BaseException | None = None
        queue = _prepared(assembly, memory, todo, at)
        later: list[str] = []
        begun: set[str] = set()

        def one(user: str) -> Turn:
            """One decision from its claim to its last trace, made again from its checkpoint if the database went away."""
            key = decision_id(run, user, at)
            with memory.claimed(key) as mine:
                if not mine:
                    return "claimed"
                if memory.recorded([key]):
                    # By this batch, if the database went away after it: then only the trace is left to be removed.
                    if saver is not None and key in begun and not keep_checkpoints:
                        with checkpoint_errors(where):
                            forget(saver, key)
                    return memory.get(key) if key in begun else "recorded"
                begun.add(key)
                if assembly.client is not None:
                    memory.begin(run, user, at)  # so that the calls of a killed decision have an owner
                if saver is None:
                    return traced(user, key)
                with checkpoint_errors(where):
                    decision = traced(user, key)
                    if not keep_checkpoints:
                        forget(saver, key)
                return decision

        def traced(user: str, key: str) -> Decision:
            earlier = None
            if saver is not None and tracing():
                earlier = earlier_span(graph.get_state({"configurable": {"thread_id": key}}).metadata)
            with decision_span(key, run, user, at, earlier=earlier) as span:
                decision = decide(graph, user, at, key, span.metadata)
                if span.recording:
                    span.tell(decision, memory.calls(decision=key) if assembly.client is not None else ())
            return decision

        def patiently(user: str) -> Turn:
            from .memory.database import until_back

            again = until_back(memory.outage_s, also=stop_when_event_set(halted))
            return again.copy(sleep=sleep_using_event(halted))(one, user)

        def halting() -> bool:
            return halted.is_set() or bool(budget_met)

        while True:
            while not halting() and error is None and len(futures) < 2 * workers:
                user = next(queue, None)
                if user is None:
                    break
                futures[pool.submit(patiently, user)] = user
            if not futures:
                if halting() or error is not None or not later:
                    break
                halted.wait(PAUSE_S)
                queue, later = iter(later), []
                continue
            if halting():
                futures = {future: user for future, user in futures.items() if not future.cancel()}  # not begun yet
                if not futures:
                    break
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                user, failed = futures.pop(future), future.exception()
                if isinstance(failed, PausedError):
                    waiting += 1
                    if isinstance(failed, RunPausedError):
                        budget_met = budget_met or failed.what
                elif failed is not None:
                    error = error or failed
                    continue
                elif (turn := future.result()) == "claimed":
                    later.append(user)
                    continue
                elif turn == "recorded":
                    earlier += 1
                elif isinstance(turn, Decision):
                    done += 1
                    confident = unasked(turn)
                    sure += confident and assembly.client is not None
                    fallbacks += not confident and stood_in(turn, assembly.parts.reasoner.name)
                progress(earlier + done + waiting, len(wanted))
        if error is not None:
            raise error
    used = assembly.client.usage if assembly.client else RunUsage()
    left = len(wanted) - earlier - done
    return AwakenReport(
        run=run,
        wanted=len(wanted),
        earlier=earlier,
        decided=done,
        left=left,
        fallbacks=fallbacks,
        sure=sure,
        calls=used.answered + used.failed - before.answered - before.failed,
        cached=used.cached - before.cached,
        failed_calls=used.failed - before.failed,
        tokens=used.tokens - before.tokens,
        cost_usd=None if used.cost_usd is None else used.cost_usd - (before.cost_usd or 0.0),
        seconds=time.perf_counter() - started,
        stopped=halting() and left > 0,
        waiting=waiting,
        budget_met=budget_met,
        allocation=assembly.allocation,
    )


def unasked(decision: Decision) -> bool:
    """Whether no LLM was asked because the user was not worth it, by the gate or beside others in a budget."""
    return decision.worth is not None and not decision.worth.rounds


def stood_in(decision: Decision, reasoner: str) -> bool:
    """Whether somebody else than ``reasoner`` answered anything."""
    return any(answer.reasoner != reasoner for done in decision.rounds for answer in done.answers)


def decide(
    graph: CompiledStateGraph[Any, Any, Any, Any],
    user: str,
    at: datetime,
    thread: str,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Decision:
    """Run or resume one decision; with a checkpointer each finished node is durable before the next one starts, and each
    checkpoint holds ``metadata``."""
    saver: BaseCheckpointSaver[Any] | None = graph.checkpointer if not isinstance(graph.checkpointer, bool) else None
    if saver is None:
        decision = graph.invoke({"user": user, "at": at})["decision"]
    else:
        config: RunnableConfig = {"configurable": {"thread_id": thread}, "metadata": dict(metadata)}
        half_way = bool(graph.get_state(config).next)
        start = None if half_way else {"user": user, "at": at}
        decision = graph.invoke(start, config, durability="sync")["decision"]
    if not isinstance(decision, Decision):
        raise ProjectError(
            f"the checkpoint of decision {thread} is of another version", fix="delete the checkpoints file"
        )
    return decision


def _prepared(assembly: Assembled, memory: Memory, users: Sequence[str], at: datetime) -> Iterator[str]:
    """Users in order; where it pays, slates without reasoning are made many at a time when the next ``AHEAD`` are reached."""
    recommender, settings = assembly.parts.recommender, assembly.settings
    if not isinstance(recommender, Preparing):
        yield from users
        return
    for low in range(0, len(users), AHEAD):
        part = {decision_id(settings.run, user, at): user for user in users[low : low + AHEAD]}
        beside = memory.recorded(part) if low else ()  # by another command, since this one looked
        recommender.prepare([user for key, user in part.items() if key not in beside], at, settings.slate_size)
        yield from part.values()
