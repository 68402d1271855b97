"""Share out an LLM budget among the users of a run: weigh everybody, then grant as ``allocation.py`` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from rolegen_errors import ProjectError
from rolegen_graphs.nodes.observe import weigh

from .allocation import LlmBudget, allocate
from .assembly import Assembly

if TYPE_CHECKING:
    from rolegen_graphs.words import Worth

    from .llm import Price

TOGETHER = 64
"""users whose slates without reasoning are computed together"""


def spend(
    assembly: Assembly,
    users: Sequence[str],
    at: datetime,
    budget: LlmBudget,
    *,
    price: Price | None,
    progress: Callable[[int, int], None],
    stop: Event | None = None,
) -> Assembly:
    """The assembly with ``budget`` shared out among ``users``; nobody else is asked.

    When ``stop`` is set half way nobody is granted anything: the batch that follows is stopped too.

    Raises:
        ProjectError: no LLM is involved, or a budget in dollars without a price.
    """
    if assembly.client is None:
        raise ProjectError("an LLM budget needs an LLM", fix="add --reasoner llm, or set [reasoner] kind")
    cost = budget.forecast(price)
    worths = _worths(assembly, sorted(set(users)), at, progress, stop)
    granted, allocation = allocate(worths, budget, cost)
    settings = replace(assembly.settings, granted=granted)
    return replace(assembly, settings=settings, allocation=allocation)


def _worths(
    assembly: Assembly,
    users: Sequence[str],
    at: datetime,
    progress: Callable[[int, int], None],
    stop: Event | None,
) -> dict[str, Worth]:
    from .backbone_tool import BackboneRecommender

    parts, settings = assembly.parts, assembly.settings
    found: dict[str, Worth] = {}
    for low in range(0, len(users), TOGETHER):
        part = users[low : low + TOGETHER]
        if isinstance(parts.recommender, BackboneRecommender):
            parts.recommender.prepare(part, at, settings.slate_size)
        for user in part:
            if stop is not None and stop.is_set():
                return {}
            baseline = parts.recommender.slate(user, at, (), settings.slate_size)
            found[user] = weigh(parts, settings, parts.observer.observe(user, at), baseline)
        progress(len(found), len(users))
    return found
