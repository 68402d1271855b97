"""Graders: each gives one number to one decision, or None where it has nothing to say. One file for each.

``GRADERS`` are those that come along; ``module:attribute`` names one of the user's own, see :func:`find_grader`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import cast

from rolegen_errors import InputError

from . import (
    collapse,
    cost,
    evidence_agreement,
    grounding_rate,
    judge,
    latency,
    path_effect,
    recall,
    role_accuracy,
    stability,
    tokens,
    validity,
)
from .grade import Graded, Grader

GRADERS: Mapping[str, Grader] = {
    grader.name: grader
    for grader in (
        role_accuracy.GRADER,
        evidence_agreement.GRADER,
        stability.GRADER,
        validity.GRADER,
        grounding_rate.GRADER,
        collapse.GRADER,
        path_effect.GRADER,
        recall.GRADER,
        judge.GRADER,
        tokens.GRADER,
        cost.GRADER,
        latency.GRADER,
    )
}
USUAL = tuple(name for name in GRADERS if name != judge.GRADER.name)
"""what a new suite measures: a judge costs questions of its own and is asked for"""


def find_grader(name: str) -> Grader:
    """A grader by its name, or one of the user's own as ``module:attribute``.

    The attribute is a :class:`Grader`, or a function from :class:`Graded` to a number from 0 to 1 of which more is better (None where it
    has nothing to say).

    Raises:
        InputError: there is none of that name, or it cannot be imported.
    """
    known = GRADERS.get(name)
    return known if known is not None else _own(name)


@cache
def _own(name: str) -> Grader:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise InputError(
            f"no grader is called {name}",
            fix=f"there are {', '.join(GRADERS)}; one of your own is named as module:attribute",
        )
    try:
        found: object = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the grader {name!r} cannot be imported: {error}",
            fix="install its module, or set PYTHONPATH to the folder that it lies in",
        ) from error
    if isinstance(found, Grader):
        return Grader(name, found.grade, found.better, found.unit, found.low, found.high)
    if not callable(found):
        raise InputError(f"{name!r} is a {type(found).__name__}, neither a Grader nor a function")
    return Grader(name, cast(Callable[[Graded], float | None], found), better=1)


__all__ = ["GRADERS", "USUAL", "Graded", "Grader", "find_grader"]
