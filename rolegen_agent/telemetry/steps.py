"""A span around a generator: current in each of its steps, and never in the code of whoever consumes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")
P = TypeVar("P")
_END: Any = object()


def steps_within(manager: AbstractContextManager[T], steps: Callable[[T], Generator[P]]) -> Iterator[P]:
    """The parts of ``steps``, each made in a context of its own in which ``manager`` is entered."""
    context = copy_context()
    entered = context.run(manager.__enter__)
    iterator = steps(entered)
    try:
        while (part := context.run(next, iterator, _END)) is not _END:
            yield part
    except BaseException as error:
        context.run(iterator.close)
        context.run(manager.__exit__, type(error), error, error.__traceback__)
        raise
    context.run(manager.__exit__, None, None, None)


async def async_steps_within(
    manager: AbstractContextManager[T], steps: Callable[[T], AsyncGenerator[P]]
) -> AsyncIterator[P]:
    """As :func:`steps_within`. Each step is a task, since a task alone can be given a context."""
    context = copy_context()
    entered = context.run(manager.__enter__)
    iterator = steps(entered)

    async def one() -> P:
        return await anext(iterator, _END)

    async def close() -> None:
        await iterator.aclose()

    try:
        while (part := await asyncio.create_task(one(), context=context)) is not _END:
            yield part
    except BaseException as error:
        await asyncio.create_task(close(), context=context)
        context.run(manager.__exit__, type(error), error, error.__traceback__)
        raise
    context.run(manager.__exit__, None, None, None)
