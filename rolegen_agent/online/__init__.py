"""Slates in milliseconds, for whoever asks now: over HTTP (``rolegen serve``) or from Python (``RoleGen.online``).

Names load on first use, since they need torch and the extra ``serve``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rolegen_errors import MissingExtraError

if TYPE_CHECKING:
    from .app import create_app
    from .engine import Online
    from .words import Answer, EventSeen, EventsReport, EventTold, Health, Shown, SlateWanted

__all__ = [
    "Answer",
    "EventSeen",
    "EventTold",
    "EventsReport",
    "Health",
    "Online",
    "Shown",
    "SlateWanted",
    "create_app",
]

_HOME = {"Online": "engine", "create_app": "app"}
_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingExtraError(package.replace("_", "-"), "serve")
    return getattr(import_module(f".{_HOME.get(name, 'words')}", __name__), name)
