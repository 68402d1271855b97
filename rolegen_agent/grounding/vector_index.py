"""Candidates by embeddings: an inverted file of one-byte vectors (faiss, IVF), which can be filtered while it is searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from .similarity import Ints

COUNT = 300
"""items named"""
PROBES = 5
"""one vector in so many is compared"""
ROUNDING = 0.01
"""a cosine of one-byte vectors is nearer to the exact one than this"""
TRAINED = 64
"""vectors for each list that the lists' centres are fitted on"""
BATCH = 50_000
Vectors = npt.NDArray[np.float32]


class VectorIndex:
    """An index in a file; safe for several threads. Its library is an extra, of which ``opening`` makes sure."""

    def __init__(self, file: Path) -> None:
        import faiss

        self._index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)

    @staticmethod
    def build(file: Path, vectors: Vectors) -> None:
        """Write an index over unit rows (N, width), whose place is their code; about sqrt(N) lists."""
        import faiss

        items, width = vectors.shape
        lists = max(1, int(items**0.5))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(width), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.seed, index.cp.max_points_per_centroid = 0, TRAINED
        sample = np.random.default_rng(0).choice(items, min(items, TRAINED * lists), replace=False)
        index.train(np.ascontiguousarray(vectors[np.sort(sample)]))
        for low in range(0, items, BATCH):
            index.add(np.ascontiguousarray(vectors[low : low + BATCH]))
        faiss.write_index(index, str(file))

    def above(self, query: Vectors, least: float) -> Ints:
        """All codes whose cosine to ``query`` (width,) is at least ``least``, in order, and a few that come close to it."""
        import faiss

        options = faiss.SearchParametersIVF(nprobe=self._index.nlist)
        codes = self._index.range_search(query[None], least - ROUNDING, params=options)[2]
        found: Ints = np.sort(codes).astype(np.int64)
        return found

    def nearest(self, query: Vectors, allowed: Ints) -> Ints:
        """Up to ``COUNT`` of the ``allowed`` codes nearest to ``query`` (width,)."""
        import faiss

        lists, items = self._index.nlist, self._index.ntotal
        mask = np.zeros(items, np.bool_)
        mask[allowed] = True
        selector = faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        # As many vectors are compared whatever the filter: what is allowed may lie far from the query.
        probes = min(lists, -(-lists * items // (PROBES * max(len(allowed), 1))))
        options = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        codes = self._index.search(query[None], min(COUNT, items), params=options)[1][0]
        found: Ints = codes[codes >= 0].astype(np.int64)
        return found
