"""The categories that an answer may name, and the way back from the shown name to the catalogue's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rolegen_prompts import inline

from ..words import Observation

SHOWN = 60
"""categories offered in a prompt"""


def seen_categories(seen: Observation) -> tuple[str, ...]:
    """The categories of the trajectory, most frequent first; equal counts keep the order of the history."""
    return tuple(name for name, _ in Counter(e.category for e in seen.trajectory.events if e.category).most_common())


class Offer:
    """The offered categories. Names are shown cleaned and bounded; ``original`` leads back to the catalogue's name."""

    def __init__(self, names: Iterable[str]) -> None:
        distinct = list(dict.fromkeys(name for name in names if name.strip()))
        self._originals: dict[str, str] = {}
        for name in distinct[:SHOWN]:
            shown = inline(name)
            if shown:  # of two names that are shown alike the more frequent one is meant
                self._originals.setdefault(_key(shown), name)
        self.left_out = len(distinct) - len(self._originals)

    @property
    def shown(self) -> Sequence[str]:
        """The names as the prompt shows them."""
        return [inline(name) for name in self._originals.values()]

    def __len__(self) -> int:
        return len(self._originals)

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._originals

    def original(self, name: str | None) -> str | None:
        """The catalogue's own name of a shown category; None stays None. ``KeyError`` for a name never offered."""
        return None if name is None else self._originals[_key(name)]

    def render(self) -> str:
        """One name a line."""
        if not self._originals:
            return "(none: answer null)"
        more = [f"({self.left_out} more categories may not be named)"] if self.left_out else []
        return "\n".join([*self.shown, *more])


def _key(name: str) -> str:
    # A model that writes "Home Decor" for "HOME DECOR" means the same category; anything further off is refused.
    return " ".join(name.split()).casefold()
