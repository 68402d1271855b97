"""Fresh processes that begin in milliseconds: forked from a server that has imported everything, and not torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from rolegen_agent.turns import take_short_turns

T = TypeVar("T")
A = TypeVar("A")
PRELOAD = (
    "rolegen_evals.load.sweep",
    "rolegen_evals.load.throughput",
    "rolegen_evals.load.writers",
    "langgraph.checkpoint.sqlite",
    "langgraph.checkpoint.postgres",
    "langchain_openai",
    "alembic.command",
)


def forks() -> Any:
    """The context of such processes."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOAD))
    return context


def run_in_fork(work: Callable[[A], T], argument: A) -> T:
    """What ``work`` returns in a process of its own; an error there is an error here."""
    return run_in_forks(work, [argument])[0]


def run_in_forks(work: Callable[[A], T], arguments: list[A]) -> list[T]:
    """The same side by side, one process for each argument."""
    with ProcessPoolExecutor(len(arguments), forks(), take_short_turns) as pool:
        return list(pool.map(work, arguments))
