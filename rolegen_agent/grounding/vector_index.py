"""Candidates by embeddings: an inverted file of vectors of one bit a number (faiss), which can be filtered while it is searched.

One bit after a random rotation gives a cosine with a known error (RaBitQ, Gao and Long, 2024, arXiv:2405.12497) from an eighth of the
bytes of one-byte vectors; exact cosines are for the few that it names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .similarity import Ints

COUNT = 300
"""items named"""
PROBES = 5
"""one vector in so many is compared"""
ERROR = 0.47
"""standard error of an estimated cosine times the root of the vectors' width; measured on a million titles, 384 numbers: 0.024"""
BITS = 4
"""of each number of the query"""
TRAINED = 64
"""vectors for each list that the lists' centres are fitted on"""
BATCH = 50_000
Vectors = npt.NDArray[np.float32]


class VectorIndex:
    """An index in a file; safe for several threads. Its library is an extra, of which ``opening`` makes sure."""

    def __init__(self, file: Path) -> None:
        import faiss

        self._index = faiss.read_index(str(file))
        self._lists: int = faiss.extract_index_ivf(self._index).nlist

    @staticmethod
    def build(file: Path, vectors: Vectors) -> None:
        """Write an index over unit rows (N, width), whose place is their code; about sqrt(N) lists."""
        import faiss

        items, width = vectors.shape
        lists = max(1, int(items**0.5))
        index = faiss.index_factory(width, f"RR,IVF{lists},RaBitQ", faiss.METRIC_INNER_PRODUCT)
        clustering = faiss.extract_index_ivf(index).cp
        clustering.seed, clustering.max_points_per_centroid = 0, TRAINED
        sample = np.random.default_rng(0).choice(items, min(items, TRAINED * lists), replace=False)
        index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
        for low in range(0, items, BATCH):
            index.add(np.ascontiguousarray(vectors[low : low + BATCH]))
        faiss.write_index(index, str(file))

    def above(self, query: Vectors, least: float) -> Ints:
        """All codes whose cosine to ``query`` (width,) is at least ``least``, in order, and a few that come close to it.

        All but one in millions: the margin is five standard errors of an estimate.
        """
        margin = 5 * ERROR / len(query) ** 0.5
        codes = self._index.range_search(query[None], least - margin, params=self._options(self._lists))[2]
        found: Ints = np.sort(codes).astype(np.int64)
        return found

    def nearest(self, query: Vectors, allowed: Ints) -> Ints:
        """Up to ``COUNT`` of the ``allowed`` codes nearest to ``query`` (width,)."""
        items = self._index.ntotal
        mask = np.zeros(items, np.bool_)
        mask[allowed] = True
        # As many vectors are compared whatever the filter: what is allowed may lie far from the query.
        lists = min(self._lists, -(-self._lists * items // (PROBES * max(len(allowed), 1))))
        options = self._options(lists, np.packbits(mask, bitorder="little"))
        codes = self._index.search(query[None], min(COUNT, items), params=options)[1][0]
        found: Ints = codes[codes >= 0].astype(np.int64)
        return found

    @staticmethod
    def _options(lists: int, allowed: npt.NDArray[np.uint8] | None = None) -> Any:
        import faiss

        selector = None if allowed is None else faiss.IDSelectorBitmap(allowed)
        return faiss.IVFRaBitQSearchParameters(nprobe=lists, qb=BITS, sel=selector)
