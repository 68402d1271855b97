"""The trie over semantic ids: which code may follow which prefix, so that only real items come out.

Nodes of one level are numbered in the order of their codes, so the children of a node are neighbours on the next level:
child s of node n on level l is node ``first[l][n] + s``, entered by code ``code[l][first[l][n] + s]``. These are compressed
sparse rows: a catalogue of a million items takes tens of megabytes, whatever the sizes of the codebooks.
Whether a node may be entered at a decision depends on the items below it that are available then (:meth:`Trie.alive`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rolegen_errors import InputError

from .events import Ints


class Trie(nn.Module):
    """Prefix tables for I items with L codes each; a module without weights, so that it moves with the model.

    Raises ``InputError`` where two items share all their codes: they could not be told apart.
    """

    node: Tensor
    """(I, L + 1) node of each item's prefix of length l; the last column numbers the items' leaves"""
    item: Tensor
    """(I,) item of each leaf"""

    def __init__(self, codes: Ints, sizes: tuple[int, ...]) -> None:
        super().__init__()
        items, levels = codes.shape
        self.sizes = sizes
        node = np.zeros((items, levels + 1), np.int64)
        count, fan = 1, []
        for level in range(levels):
            key = node[:, level] * sizes[level] + codes[:, level]
            distinct, node[:, level + 1] = np.unique(key, return_inverse=True)
            children = np.bincount(distinct // sizes[level], minlength=count)
            items_below = np.bincount(node[:, level], minlength=count)
            self.register_buffer(f"branching_{level}", torch.from_numpy(items_below > 1), persistent=False)
            self.register_buffer(f"first_{level}", _int32(np.r_[0, children.cumsum()]), persistent=False)
            self.register_buffer(f"code_{level}", torch.from_numpy(distinct % sizes[level]), persistent=False)
            fan.append(int(children.max()))
            count = len(distinct)
        if count < items:
            raise InputError(
                f"{items - count} items share all their codes with another item",
                fix="add a digit that tells them apart",
            )
        self.fan = tuple(fan)
        """(L,) the most children that any node of the level has"""
        self.choices = max([1, *(level + 1 for level, most in enumerate(fan) if most > 1)])
        """levels down to the last one on which there is anything to choose; below, a prefix is an item, as where no ids collided"""
        leaf = np.empty(items, np.int64)
        leaf[node[:, -1]] = np.arange(items)
        self.register_buffer("node", _int32(node), persistent=False)
        self.register_buffer("item", _int32(leaf), persistent=False)

    @property
    def first(self) -> list[Tensor]:
        """L tensors (nodes on level l, + 1): the first child of each node, and one past the last child of the last."""
        return [self.get_buffer(f"first_{level}") for level in range(len(self.sizes))]

    @property
    def code(self) -> list[Tensor]:
        """L tensors (nodes on level l + 1,): the code by which each of these nodes is entered."""
        return [self.get_buffer(f"code_{level}") for level in range(len(self.sizes))]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Number of nodes on each of the L + 1 levels; one on level 0, I on level L."""
        return (1, *(len(code) for code in self.code))

    def below(self, level: int, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Children of nodes: child (…, fan[level]), the code that enters it, and whether it is there at all.

        The children of one node have consecutive numbers, so child s of a node is its first child plus s.

        Args:
            node: (…,) nodes of the level; -1 is no node and has no children.
        """
        first, code = self.get_buffer(f"first_{level}"), self.get_buffer(f"code_{level}")
        safe = node.clamp(min=0).flatten()
        begin = first.index_select(0, safe)
        count = (first.index_select(0, safe + 1) - begin).masked_fill_(node.flatten() < 0, 0)
        slot = torch.arange(self.fan[level], device=node.device, dtype=begin.dtype)
        # A node with fewer children than another has places left over; they point at its last child.
        there = slot < count.unsqueeze(-1)
        child = begin.unsqueeze(-1) + torch.minimum(slot, (count - 1).clamp(min=0).unsqueeze(-1))
        shape = (*node.shape, self.fan[level])
        return child.view(shape), code.index_select(0, child.flatten()).view(shape), there.view(shape)

    def descend(self, level: int, node: Tensor) -> Tensor:
        """The leaves (…,) below nodes of ``level``, from which on nothing is to be chosen; -1 stays no node."""
        for below in self.first[level:]:
            node = torch.where(node >= 0, below.index_select(0, node.clamp(min=0).flatten()).view(node.shape), -1)
        return node.long()

    def branching(self, level: int, node: Tensor) -> Tensor:
        """True (…,) where more than one item lies below the node of the level; -1 is no node."""
        return self.get_buffer(f"branching_{level}")[node.clamp(min=0)] & (node >= 0)

    def alive(self, available: npt.NDArray[np.bool_]) -> list[Tensor]:
        """L tensors (nodes on level l + 1,) bool: True where an available item lies below the node."""
        open_items = torch.from_numpy(available).to(self.node.device)
        tables = []
        for level, count in enumerate(self.nodes[1:], start=1):
            living = torch.zeros(count, dtype=torch.bool, device=self.node.device)
            living[self.node[open_items, level]] = True
            tables.append(living)
        return tables


def _int32(values: Ints) -> Tensor:
    return torch.from_numpy(values.astype(np.int32))
