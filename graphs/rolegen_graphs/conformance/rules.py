"""How a part of somebody else's is held against the rules of its port: all that do not hold are told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rolegen_errors import RoleGenError

P = ParamSpec("P")
T = TypeVar("T")


class ConformanceError(RoleGenError):
    """A part breaks rules of its port. ``broken`` holds them, one sentence each, with what was seen."""

    def __init__(self, part: str, broken: list[str]) -> None:
        self.broken = tuple(broken)
        super().__init__(
            f"{part} breaks {len(broken)} rule{'' if len(broken) == 1 else 's'} of its port:\n  - "
            + "\n  - ".join(broken),
            fix="see the docstring of the check, which lists the rules, and rolegen_graphs/ports.py",
        )


class Rules:
    """Collects the rules that do not hold; a context manager that raises them together at its end."""

    def __init__(self, part: object) -> None:
        self._part, self._broken = type(part).__name__, list[str]()

    def __enter__(self) -> Rules:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._broken:
            raise ConformanceError(self._part, list(dict.fromkeys(self._broken)))

    def hold(self, rule: str, holds: bool, seen: object = "") -> bool:
        """Note ``rule`` as broken unless it holds."""
        if not holds:
            self._broken.append(f"{rule}; seen: {seen!r}"[:400] if seen != "" else rule)
        return holds

    def ask(self, question: str, call: Callable[P, T], *args: P.args, **more: P.kwargs) -> T | None:
        """The answer; an exception of any kind is a broken rule, since the caller's decision would end there."""
        try:
            return call(*args, **more)
        except Exception as error:  # noqa: BLE001 - told to the caller with all the others
            self.hold(f"answers {question}", False, error)
            return None
