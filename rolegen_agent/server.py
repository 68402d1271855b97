"""What ``langgraph.json`` serves: the decision graph of the project that ``ROLEGEN_PROJECT`` names.

The graph is built on the first request for it, not at import, so that the server starts without torch. It compiles
without a checkpointer: the server brings its own.
"""

from __future__ import annotations

import asyncio
import os
from functools import lru_cache
from typing import Any

from langgraph.graph import StateGraph

from .facade import RoleGen
from .project import today


async def graph() -> StateGraph[Any, Any, Any, Any]:
    """The uncompiled graph. ``ROLEGEN_PROJECT`` is a project folder, ``ROLEGEN_AT`` the date that its log is read up to."""
    return await asyncio.to_thread(_build)


@lru_cache(maxsize=1)
def _build() -> StateGraph[Any, Any, Any, Any]:
    shop = RoleGen.open(os.environ.get("ROLEGEN_PROJECT"))
    at = os.environ.get("ROLEGEN_AT")
    return shop.graph(at or today())
