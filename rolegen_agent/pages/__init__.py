"""Trace pages: why this user got these items, served from the loop memory.

:func:`create_app` gives an ASGI app to run or to mount in your own; :func:`write_export` writes decisions as one file that needs
nothing outside itself. Names load on first use, since both need the extra ``pages``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from rolegen_errors import MissingExtraError

if TYPE_CHECKING:
    from .app import catalogue_titles, create_app
    from .export import write_export
    from .security import LOOPBACK, is_loopback
    from .serving import serve

__all__ = ["LOOPBACK", "catalogue_titles", "create_app", "is_loopback", "serve", "write_export"]

_HOME = {
    "LOOPBACK": "security",
    "catalogue_titles": "app",
    "create_app": "app",
    "is_loopback": "security",
    "serve": "serving",
    "write_export": "export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in ("fastapi", "uvicorn"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "pages")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
