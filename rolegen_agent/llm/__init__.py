"""Access to chat models: construction, the one boundary with retries, budgets, cache and record, and a check up front.

The names load on first use, so that a run without an LLM never imports a client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Limits
    from .client import LlmClient
    from .endpoint import check_endpoint
    from .models import chat_model
    from .prices import Price
    from .usage import RunUsage

__all__ = ["Limits", "LlmClient", "Price", "RunUsage", "chat_model", "check_endpoint"]

_HOME = {
    "Limits": "budget",
    "LlmClient": "client",
    "Price": "prices",
    "RunUsage": "usage",
    "chat_model": "models",
    "check_endpoint": "endpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
