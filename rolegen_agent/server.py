"""What ``langgraph.json`` serves: graphs of the project that ``ROLEGEN_PROJECT`` names.

``rolegen`` decides; ``rolegen_outcome`` decides, and then waits for the outcome (an interrupt, resumed with the report). They are
built on the first request, not at import, so that the server starts without torch, and anew for another day. They compile
without a checkpointer: the server brings its own.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from functools import lru_cache
from typing import Any

from langgraph.graph import StateGraph

from .facade import RoleGen
from .project import moment, today


async def graph() -> StateGraph[Any, Any, Any, Any]:
    """The uncompiled graph. ``ROLEGEN_PROJECT`` is a project folder, ``ROLEGEN_AT`` the date that its log is read up to."""
    return await asyncio.to_thread(lambda: _shop().graph(_at()))


async def outcome_graph() -> StateGraph[Any, Any, Any, Any]:
    """The uncompiled graph that waits for the outcome."""
    return await asyncio.to_thread(lambda: _shop().outcome_graph(_at()))


@lru_cache(maxsize=1)
def _shop() -> RoleGen:
    return RoleGen.open(os.environ.get("ROLEGEN_PROJECT"))


def _at() -> datetime:
    """The date of all decisions; without one today's, so that a server may run for weeks."""
    at = os.environ.get("ROLEGEN_AT")
    return moment(at) if at else today()
