"""Semantic ids: each item as a short path of codes, near items under a common prefix.

Residual k-means over the item embedding (as in residual quantisation of TIGER, Rajput et al. 2023, arXiv 2305.05065,
with k-means for the trained quantiser), then one more digit that tells items with equal codes apart, so that every
item has an id of its own and nothing is ever counted as a hit by collision.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.cluster import KMeans

from rolegen_errors import ProjectError

from .events import Floats, Ints


@dataclass(frozen=True)
class SemanticIds:
    """Codes of I items on L levels, the last of which resolves collisions."""

    codes: Ints
    """(I, L), ``codes[i, l] < sizes[l]``"""
    sizes: tuple[int, ...]
    """(L,) codebook sizes"""

    @classmethod
    def fit(cls, embedding: Floats, *, levels: int, codebook: int, seed: int) -> SemanticIds:
        """Quantise ``embedding`` (I, D) on ``levels`` residual levels of ``codebook`` codes, plus the collision digit."""
        residual = embedding.astype(np.float64)
        columns = []
        size = min(codebook, len(np.unique(embedding, axis=0)))
        for level in range(levels):
            distinct = len(np.unique(residual.round(9), axis=0))
            means = KMeans(min(size, distinct), n_init=1, random_state=seed + level).fit(residual)
            columns.append(means.labels_.astype(np.int64))
            residual = residual - means.cluster_centers_[means.labels_]
        prefix = np.stack(columns, axis=1)
        _, group = np.unique(prefix, axis=0, return_inverse=True)
        group = group.ravel()  # numpy 2.0 returns it as a column
        order = np.argsort(group, kind="stable")
        begin = np.r_[0, np.flatnonzero(np.diff(group[order])) + 1]
        digit = np.empty(len(group), np.int64)
        digit[order] = np.arange(len(group)) - np.repeat(begin, np.diff(np.r_[begin, len(group)]))
        codes = np.concatenate([prefix, digit[:, None]], axis=1)
        return cls(codes=codes, sizes=tuple(int(column.max()) + 1 for column in codes.T))

    @property
    def collisions(self) -> int:
        """Items that share all but the last digit with an earlier item."""
        return int((self.codes[:, -1] > 0).sum())

    def use(self) -> tuple[float, ...]:
        """Share of each codebook that is used, collision digit left out."""
        return tuple(len(np.unique(self.codes[:, k])) / self.sizes[k] for k in range(len(self.sizes) - 1))

    def save(self, folder: Path) -> None:
        """Write ``semantic_ids.safetensors`` and ``semantic_ids.json``."""
        save_file({"codes": np.ascontiguousarray(self.codes)}, folder / "semantic_ids.safetensors")
        (folder / "semantic_ids.json").write_text(
            json.dumps({"sizes": self.sizes, "collisions": self.collisions, "use": self.use()})
        )

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        """Read what :meth:`save` wrote.

        Raises:
            ProjectError: the files are missing.
        """
        path = folder / "semantic_ids.safetensors"
        if not path.exists():
            raise ProjectError("there are no semantic ids", where=str(path), fix="run `rolegen train`")
        sizes = json.loads((folder / "semantic_ids.json").read_text())["sizes"]
        return cls(codes=load_file(path)["codes"].astype(np.int64), sizes=tuple(int(size) for size in sizes))
