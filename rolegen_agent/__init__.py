"""RoleGen: awakens dormant users of a shop. The product's surface; heavy parts load on first use, torch among them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rolegen_errors import RoleGenError

    from .facade import RoleGen
    from .project import Project, open_project

__version__ = "0.1.0"
__all__ = ["Project", "RoleGen", "RoleGenError", "open_project"]

_HOME = {
    "Project": "rolegen_agent.project",
    "RoleGen": "rolegen_agent.facade",
    "RoleGenError": "rolegen_errors",
    "open_project": "rolegen_agent.project",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
