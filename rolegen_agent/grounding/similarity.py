"""What compares a text with the titles of a catalogue: the contract, whatever the text is turned into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
MAX_TEXT = 300
"""characters of a title or a spec's text that are read: a longer text has no more to say about one item"""


class Similarity(Protocol):
    """Cosine similarity of a text to each title, by item code. A title without content is like nothing."""

    @property
    def threshold(self) -> float:
        """The least cosine at which a match counts, unless the project says otherwise."""
        ...

    @property
    def few(self) -> int:
        """So many items are compared one by one in a few milliseconds."""
        ...

    @property
    def indexed(self) -> bool:
        """Whether :meth:`nearest` may be asked; if not, :meth:`near` is quick."""
        ...

    def prepare(self, texts: Sequence[str]) -> None:
        """The texts of one decision, before they are asked about one by one."""
        ...

    def of(self, text: str, codes: Ints) -> Floats:
        """(len(codes),) exact cosines."""
        ...

    def near(self, text: str, least: float) -> tuple[Ints, Floats]:
        """Every item whose cosine is at least ``least``, in order of codes: an exact search over the whole catalogue."""
        ...

    def nearest(self, text: str, allowed: Ints, category: int | None, among: int) -> Ints | None:
        """The few hundred likeliest of the ``allowed`` codes, by the index; None where it has nothing to say.

        Args:
            allowed: codes in rising order, all of ``category`` where it is given.
            category: code of the category that is searched; None = the whole catalogue.
            among: number of items in what is searched, allowed or not.
        """
        ...


def clean(text: str) -> str:
    """A title or a spec's text as it is compared."""
    return text[:MAX_TEXT].lower()
