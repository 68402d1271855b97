"""Sentence embeddings of titles: any ``Embeddings`` of langchain-core, or what else embeds documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .similarity import Floats, Ints
from .vector_index import VectorIndex

if TYPE_CHECKING:
    from rolegen_backbone.text_encoder import TextEncoder

Vectors = npt.NDArray[np.float32]
KEPT = 4_096
"""texts whose vectors are remembered"""
BATCH = 20_000
"""titles compared at a time"""
MARGIN = 1e-3
"""a float32 product is nearer to the exact one than this"""


class EmbeddingSimilarity:
    """Exact cosines by dense products; with an index only over what it names.

    Texts are embedded as documents, like the titles: a spec describes an item, it asks no question. Those of a decision
    are embedded in one call.

    Args:
        encoder: the one that embedded the titles.
        vectors: (items, width) unit rows, zero rows for titles without content.
        index: names likely items of a large catalogue.
    """

    threshold = 0.5  # all-MiniLM-L6-v2 on real titles: wishes that the shop can meet reach 0.6, others stay below 0.5
    few = 5_000

    def __init__(self, encoder: TextEncoder, vectors: Vectors, index: VectorIndex | None = None) -> None:
        self._encoder, self._vectors, self._index = encoder, vectors, index
        self._known: dict[str, Vectors] = {}
        self._lock = Lock()
        self._near = lru_cache(maxsize=min(KEPT, max(64, 200_000_000 // max(len(vectors), 1))))(self._search)

    @property
    def indexed(self) -> bool:
        """Whether there is an index."""
        return self._index is not None

    def prepare(self, texts: Sequence[str]) -> None:
        """Embed in one call those that are new."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._known]
            if new:
                if len(self._known) + len(new) > KEPT:
                    self._known.clear()
                self._known |= dict(zip(new, embedded(self._encoder, new), strict=True))

    def of(self, text: str, codes: Ints) -> Floats:
        """(len(codes),) exact cosines."""
        # In double precision: the order in which a matrix product adds up depends on its size.
        scores: Floats = self._vectors[codes].astype(np.float64) @ self._query(text).astype(np.float64)
        return np.clip(scores, 0.0, 1.0)

    def near(self, text: str, least: float) -> tuple[Ints, Floats]:
        """Every item whose cosine is at least ``least``, in order of codes."""
        found: tuple[Ints, Floats] = self._near(text, least)
        return found

    def nearest(self, text: str, allowed: Ints, category: int | None, among: int) -> Ints | None:
        """What the index names; see :meth:`~.vector_index.VectorIndex.nearest`."""
        return None if self._index is None else self._index.nearest(self._query(text), allowed)

    def _search(self, text: str, least: float) -> tuple[Ints, Floats]:
        query = self._query(text)
        # Most are far from anything: which ones is told by the index's vectors of bits, a thirtieth of the bytes.
        codes = self._above(query, least) if self._index is None else self._index.above(query, least)
        scores = self.of(text, codes)
        return codes[scores >= least], scores[scores >= least]

    def _above(self, query: Vectors, least: float) -> Ints:
        parts = [
            low + np.flatnonzero(self._vectors[low : low + BATCH] @ query >= least - MARGIN)
            for low in range(0, len(self._vectors), BATCH)
        ]
        return np.concatenate(parts)

    def _query(self, text: str) -> Vectors:
        self.prepare([text])
        return self._known[text]


def embedded(encoder: TextEncoder, texts: Sequence[str]) -> Vectors:
    """(N, width) unit rows, zero rows for texts without a letter or digit, which an encoder would put somewhere."""
    from rolegen_backbone.text_encoder import embed, unit_rows

    rows = unit_rows(embed(encoder, texts))
    rows[[not any(c.isalnum() for c in text) for text in texts]] = 0
    return rows
