"""Awaken many users: bounded side by side, resumable, stopped cleanly.

The unit of resumption is the decision. What memory holds already is not decided again; a decision that was killed half
way goes on from its LangGraph checkpoint. Ctrl-C lets the decisions under way finish and starts no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig

from rolegen_errors import ProjectError
from rolegen_graphs import create_decision_graph, decision_id
from rolegen_graphs.words import Decision

from .llm.usage import RunUsage

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from langgraph.graph.state import CompiledStateGraph

    from .allocation import Allocation
    from .assembly import Assembly
    from .backbone_tool import BackboneRecommender
    from .memory import Memory

AHEAD = 64
"""users whose slates without reasoning are computed together"""


@dataclass(frozen=True)
class AwakenReport:
    """What a batch did. ``wanted = earlier + decided + left``."""

    run: str
    wanted: int
    earlier: int
    """decisions that memory held already"""
    decided: int
    left: int
    """not reached, because the batch was stopped"""
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
    allocation: Allocation | None = None
    """how an LLM budget was shared out, if one was given"""


def awaken(
    assembly: Assembly,
    memory: Memory,
    users: Sequence[str],
    at: datetime,
    *,
    workers: int,
    checkpoints: str | Path | None,
    keep_checkpoints: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Event | None = None,
) -> AwakenReport:
    """Decide on ``users`` at ``at``; each decision is in memory when it is done.

    Args:
        workers: decisions under way at the same time.
        checkpoints: where LangGraph keeps the state of decisions under way; None keeps none, which suits the evidence
            reasoner: its decisions take milliseconds, so a killed one is simply made again.
        stop: set by the caller (for instance on Ctrl-C) to end after the decisions under way.

    Raises:
        RoleGenError: of the first decision that failed; decisions under way are finished and kept first.
    """
    started = time.perf_counter()
    run, wanted = assembly.settings.run, list(dict.fromkeys(users))
    finished = {user for user, when in memory.finished(run) if when == at}
    todo = [user for user in wanted if user not in finished]
    earlier, halted = len(wanted) - len(todo), stop or Event()
    done, fallbacks, sure = 0, 0, 0
    before = assembly.client.usage if assembly.client else RunUsage()
    progress(earlier, len(wanted))
    with ExitStack() as stack:
        saver = None
        if checkpoints is not None:
            from .memory.checkpoints import open_checkpointer

            saver = stack.enter_context(open_checkpointer(checkpoints))
        graph = create_decision_graph(assembly.parts, settings=assembly.settings).compile(checkpointer=saver)
        pool = stack.enter_context(ThreadPoolExecutor(max_workers=workers, thread_name_prefix="decision"))
        under_way: set[Future[Decision]] = set()
        error: BaseException | None = None
        queue = iter(_prepared(assembly, todo, at))
        exhausted = False
        while True:
            while not exhausted and not halted.is_set() and error is None and len(under_way) < 2 * workers:
                user = next(queue, None)
                if user is None:
                    exhausted = True
                    break
                if assembly.client is not None:
                    memory.begin(run, user, at)  # so that the calls of a killed decision have an owner
                under_way.add(pool.submit(decide, graph, user, at, decision_id(run, user, at)))
            if not under_way:
                break
            if halted.is_set():
                under_way = {future for future in under_way if not future.cancel()}  # those that have not begun
                if not under_way:
                    break
            ready, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ready:
                if (failed := future.exception()) is not None:
                    error = error or failed
                    continue
                decision = future.result()
                done += 1
                confident = unasked(decision)
                sure += confident and assembly.client is not None
                fallbacks += not confident and stood_in(decision, assembly.parts.reasoner.name)
                if saver is not None and not keep_checkpoints:
                    saver.delete_thread(decision.decision)
                progress(earlier + done, len(wanted))
        if error is not None:
            raise error
    used = assembly.client.usage if assembly.client else RunUsage()
    return AwakenReport(
        run=run,
        wanted=len(wanted),
        earlier=earlier,
        decided=done,
        left=len(todo) - done,
        fallbacks=fallbacks,
        sure=sure,
        calls=used.answered + used.failed - before.answered - before.failed,
        cached=used.cached - before.cached,
        failed_calls=used.failed - before.failed,
        tokens=used.tokens - before.tokens,
        cost_usd=None if used.cost_usd is None else used.cost_usd - (before.cost_usd or 0.0),
        seconds=time.perf_counter() - started,
        stopped=halted.is_set() and done < len(todo),
        allocation=assembly.allocation,
    )


def unasked(decision: Decision) -> bool:
    """Whether no LLM was asked because the user was not worth it, by the gate or beside others in a budget."""
    return decision.worth is not None and not decision.worth.rounds


def stood_in(decision: Decision, reasoner: str) -> bool:
    """Whether somebody else than ``reasoner`` answered anything."""
    return any(answer.reasoner != reasoner for done in decision.rounds for answer in done.answers)


def decide(graph: CompiledStateGraph[Any, Any, Any, Any], user: str, at: datetime, thread: str) -> Decision:
    """Run or resume one decision; with a checkpointer each finished node is durable before the next one starts."""
    saver: BaseCheckpointSaver[Any] | None = graph.checkpointer if not isinstance(graph.checkpointer, bool) else None
    if saver is None:
        decision = graph.invoke({"user": user, "at": at})["decision"]
    else:
        config: RunnableConfig = {"configurable": {"thread_id": thread}}
        half_way = bool(graph.get_state(config).next)
        start = None if half_way else {"user": user, "at": at}
        decision = graph.invoke(start, config, durability="sync")["decision"]
    if not isinstance(decision, Decision):
        raise ProjectError(
            f"the checkpoint of decision {thread} is of another version", fix="delete the checkpoints file"
        )
    return decision


def _prepared(assembly: Assembly, users: Sequence[str], at: datetime) -> Sequence[str]:
    """Users in order; the slates without reasoning are computed just ahead, many at a time."""
    from .backbone_tool import BackboneRecommender

    recommender = assembly.parts.recommender
    if not isinstance(recommender, BackboneRecommender):
        return users
    return _Ahead(recommender, users, at, assembly.settings.slate_size)


class _Ahead(list[str]):
    """The users, with a batch of baseline slates made whenever the next ``AHEAD`` of them are reached."""

    def __init__(self, recommender: BackboneRecommender, users: Sequence[str], at: datetime, size: int) -> None:
        super().__init__(users)
        self._recommender, self._at, self._size = recommender, at, size

    def __iter__(self):  # type: ignore[no-untyped-def]
        for low in range(0, len(self), AHEAD):
            part = list(self[low : low + AHEAD])
            self._recommender.prepare(part, self._at, self._size)
            yield from part
