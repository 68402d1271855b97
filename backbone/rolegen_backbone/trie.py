"""The trie over semantic ids: which code may follow which prefix, so that only real items come out.

Nodes of one level are numbered densely; ``child[l][node, code]`` is the node of the next level or -1. Whether a node
may be entered at a decision depends on the items below it that are available then (:meth:`Trie.alive`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .events import Ints


class Trie:
    """Prefix tables for I items with L codes each."""

    def __init__(self, codes: Ints, sizes: tuple[int, ...]) -> None:
        items, levels = codes.shape
        self.sizes = sizes
        node = np.zeros((items, levels + 1), np.int64)
        child: list[Tensor] = []
        for level in range(levels):
            key = node[:, level] * sizes[level] + codes[:, level]
            distinct, node[:, level + 1] = np.unique(key, return_inverse=True)
            table = np.full((int(node[:, level].max()) + 1) * sizes[level], -1, np.int64)
            table[distinct] = np.arange(len(distinct))
            child.append(torch.from_numpy(table.reshape(-1, sizes[level])))
        self.child = child
        """L tables, (nodes on level l, sizes[l])"""
        self.node = torch.from_numpy(node)
        """(I, L + 1) node of each item's prefix of length l; the last column numbers the items' leaves"""
        leaf = np.empty(items, np.int64)
        leaf[node[:, -1]] = np.arange(items)
        self.item = torch.from_numpy(leaf)
        """(I,) item of each leaf"""

    @property
    def nodes(self) -> tuple[int, ...]:
        """Number of nodes on each of the L + 1 levels; one on level 0, I on level L."""
        return (1, *(int(self.node[:, level].max()) + 1 for level in range(1, self.node.shape[1])))

    def alive(self, available: npt.NDArray[np.bool_]) -> list[Tensor]:
        """L tables like ``child``: True where an available item lies below."""
        open_items = torch.from_numpy(available)
        tables = []
        for level, table in enumerate(self.child):
            living = torch.zeros(self.nodes[level + 1], dtype=torch.bool)
            living[self.node[open_items, level + 1]] = True
            tables.append((table >= 0) & living[table.clamp(min=0)])
        return tables
