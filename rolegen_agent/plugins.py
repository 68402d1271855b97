"""Code of the project's owner, found by a name in the project file: ``module:attribute``, or the name of an entry point.

Whoever writes the project file runs the loop, so the name is as trusted as the program; nothing that a log or a model said
ever gets here.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from rolegen_errors import ProjectError


def load_named(name: str, *, group: str, what: str, fix: str) -> Any:
    """The object of that name.

    Args:
        name: ``module:attribute``, or the name of an entry point in ``group`` of any installed package.
        what: what it is to be, for the error.

    Raises:
        ProjectError: there is none, or it cannot be imported.
    """
    try:
        module, colon, attribute = name.partition(":")
        if colon:
            return getattr(import_module(module), attribute)
        found = list(entry_points(group=group, name=name))
        if not found:
            raise ProjectError(f"there is no {what} {name!r}", fix=fix)
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise ProjectError(f"the {what} {name!r} cannot be imported: {error}", fix=fix) from error
