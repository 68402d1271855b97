"""Semantic ids: each item as a short path of codes, near items under a common prefix.

A residual quantiser gives all digits but the last (``quantisers.py``), and one more digit tells items with equal codes
apart, so that every item has an id of its own and nothing is ever counted as a hit by collision. The codebooks are
kept: an item that appears later gets a free id near its own place without any retraining.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from rolegen_errors import InputError, ProjectError

from .events import Floats, Ints
from .quantisers import Projection, distances, quantiser

RESERVE: Final = 8
"""values of the last digit that no item has when ids are fitted: room for items that appear later"""
WIDER: Final = 64
"""places that a new item looks at when its own is full"""


@dataclass(frozen=True)
class SemanticIds:
    """Codes of I items on L levels, the last of which resolves collisions."""

    codes: Ints
    """(I, L), ``codes[i, l] < sizes[l]``; items of one prefix have the last digits 0, 1, 2, …"""
    sizes: tuple[int, ...]
    """(L,) codebook sizes; they never change, because the model has a table of each size"""
    centroids: tuple[Floats, ...]
    """L - 1 codebooks (sizes[l], D)"""
    prices: tuple[Floats, ...]
    """L - 1 times (sizes[l],), added to squared distances: what balance made of popular codes"""
    projection: Projection
    """from an item embedding to what was quantised"""
    quantiser: str

    @classmethod
    def fit(
        cls,
        embedding: Floats,
        *,
        levels: int,
        codebook: int,
        seed: int,
        quantiser_name: str = "balanced",
        reserve: int = RESERVE,
    ) -> SemanticIds:
        """Quantise ``embedding`` (I, E) on ``levels`` residual levels of ``codebook`` codes, plus the collision digit.

        Raises:
            InputError: no such quantiser, or more codes than a 64-bit integer can tell apart.
        """
        if codebook**levels >= 2**62:
            raise InputError(f"{levels} levels of {codebook} codes are too many", fix="choose fewer levels or codes")
        first, equal = _equal_rows(embedding)
        fitted = quantiser(quantiser_name)(np.ascontiguousarray(embedding[first]), levels, codebook, seed)
        prefix = fitted.codes[equal]
        sizes = tuple(len(book) for book in fitted.centroids)
        digit = _count_up(_keys(prefix, sizes))
        return cls(
            codes=np.concatenate([prefix, digit[:, None]], axis=1),
            sizes=(*sizes, int(digit.max()) + 1 + reserve),
            centroids=fitted.centroids,
            prices=fitted.prices,
            projection=fitted.projection,
            quantiser=quantiser_name,
        )

    def extend(self, embedding: Floats) -> SemanticIds:
        """Ids for further items, behind those that there are, which keep theirs.

        An item's place are its nearest codes, as balance has it, on all levels but the last one quantised. There it takes the nearest code
        of that level that no item of the place has, as fitted items do; if all are in use, it shares the nearest code
        with a last digit to spare; and if the place is full, the next place. Looked at one after the other.

        Args:
            embedding: (N, E) of the new items.

        Raises:
            ProjectError: every id near an item is taken.
        """
        load: dict[int, int] = {}
        keys, counts = np.unique(_keys(self.codes[:, :-1], self.sizes[:-1]), return_counts=True)
        load.update(zip(keys.tolist(), counts.tolist(), strict=True))
        codes = np.empty((len(embedding), len(self.sizes)), np.int64)
        for row, options in enumerate(self._near(embedding, 1)):
            found = _free(options, self.sizes, load) or _free(
                next(self._near(embedding[[row]], WIDER)), self.sizes, load
            )
            if found is None:
                raise ProjectError(
                    f"there is no free semantic id near new item {row} of {len(embedding)}",
                    fix="train again; more levels or a larger codebook leave more room",
                )
            codes[row, :-1], key = found
            codes[row, -1] = load.get(key, 0)
            load[key] = load.get(key, 0) + 1
        return replace(self, codes=np.concatenate([self.codes, codes]))

    def take(self, items: Ints) -> SemanticIds:
        """The ids of ``items`` in that order."""
        return replace(self, codes=self.codes[items])

    @property
    def collisions(self) -> int:
        """Items that share all but the last digit with an earlier item."""
        return int((self.codes[:, -1] > 0).sum())

    def use(self) -> tuple[float, ...]:
        """Share of each codebook that is used, collision digit left out."""
        return tuple(float((load > 0).mean()) for load in self._loads())

    def largest_load(self) -> tuple[float, ...]:
        """Items of the busiest code of each codebook, as a multiple of its fair share; collision digit left out."""
        return tuple(float(load.max() / load.mean()) for load in self._loads())

    def evenness(self) -> tuple[float, ...]:
        """Entropy of each codebook's load as a share of the largest possible; 1 where all codes serve equally many."""
        shares = [load[load > 0] / load.sum() for load in self._loads()]
        entropy = [float(-(share * np.log(share)).sum()) for share in shares]
        return tuple(e / np.log(size) if size > 1 else 1.0 for e, size in zip(entropy, self.sizes, strict=False))

    def save(self, folder: Path) -> None:
        """Write ``semantic_ids.safetensors`` and ``semantic_ids.json``."""
        arrays: dict[str, npt.NDArray[np.generic]] = {"codes": self.codes}
        arrays |= {f"centroids.{level}": book for level, book in enumerate(self.centroids)}
        arrays |= {f"prices.{level}": price for level, price in enumerate(self.prices)}
        for number, (weight, bias) in enumerate(self.projection.layers):
            arrays |= {f"projection.{number}.weight": weight, f"projection.{number}.bias": bias}
        save_file({name: np.ascontiguousarray(a) for name, a in arrays.items()}, folder / f"{_FILE}.safetensors")
        facts = {
            "quantiser": self.quantiser,
            "sizes": self.sizes,
            "items": len(self.codes),
            "collisions": self.collisions,
            "use": self.use(),
            "largest_load": self.largest_load(),
            "evenness": self.evenness(),
        }
        (folder / f"{_FILE}.json").write_text(json.dumps(facts))

    @classmethod
    def load(cls, folder: Path) -> SemanticIds:
        """Read what :meth:`save` wrote.

        Raises:
            ProjectError: the files are missing.
        """
        path = folder / f"{_FILE}.safetensors"
        if not path.exists():
            raise ProjectError("there are no semantic ids", where=str(path), fix="run `rolegen train`")
        facts, arrays = json.loads((folder / f"{_FILE}.json").read_text()), load_file(path)
        levels = range(len(facts["sizes"]) - 1)
        layers = sum(name.startswith("projection.") and name.endswith(".weight") for name in arrays)
        return cls(
            codes=arrays["codes"],
            sizes=tuple(facts["sizes"]),
            centroids=tuple(arrays[f"centroids.{level}"] for level in levels),
            prices=tuple(arrays[f"prices.{level}"] for level in levels),
            projection=Projection(
                tuple((arrays[f"projection.{n}.weight"], arrays[f"projection.{n}.bias"]) for n in range(layers))
            ),
            quantiser=facts["quantiser"],
        )

    def _loads(self) -> list[Ints]:
        return [np.bincount(self.codes[:, level], minlength=self.sizes[level]) for level in range(len(self.sizes) - 1)]

    def _near(self, embedding: Floats, width: int) -> Iterator[Ints]:
        """For each row (<= width, codes of the last level, L - 1) prefixes by place, nearest first, by beam search."""
        rows = max(1, _DISTANCES // (width * max(self.sizes[:-1])))
        for begin in range(0, len(embedding), rows):
            residual = self.projection(embedding[begin : begin + rows])[:, None, :]
            N, _, D = residual.shape
            codes = np.zeros((N, 1, 0), np.int64)
            for book, price in zip(self.centroids[:-1], self.prices[:-1], strict=True):
                W, K = residual.shape[1], len(book)
                own = (residual * residual).sum(axis=2, keepdims=True)
                cost = own + (distances(residual.reshape(-1, D), book) + price).reshape(N, W, K)
                best = np.argsort(cost.reshape(N, W * K), axis=1, kind="stable")[:, :width]
                parent, code = best // K, best % K
                codes = np.concatenate([np.take_along_axis(codes, parent[:, :, None], 1), code[:, :, None]], axis=2)
                residual = np.take_along_axis(residual, parent[:, :, None], 1) - book[code]
            book, W = self.centroids[-1], residual.shape[1]
            cost = (distances(residual.reshape(-1, D), book) + self.prices[-1]).reshape(N, W, len(book))
            last = np.argsort(cost, axis=2, kind="stable")[..., None]
            places = np.broadcast_to(codes[:, :, None, :], (N, W, len(book), codes.shape[2]))
            yield from np.concatenate([places, last], axis=3)


def _free(options: Ints, sizes: tuple[int, ...], load: dict[int, int]) -> tuple[Ints, int] | None:
    """The prefix to take of (places, codes, L - 1), and its key; None if all are full."""
    for place in options:
        keys = _keys(place, sizes[:-1]).tolist()
        loads = [load.get(key, 0) for key in keys]
        option = min(range(len(keys)), key=lambda k: (loads[k] > 0, loads[k] >= sizes[-1]))
        if loads[option] < sizes[-1]:
            return place[option], keys[option]
    return None


def _keys(prefix: Ints, sizes: tuple[int, ...]) -> Ints:
    """(N,) one integer for each prefix (N, L - 1)."""
    key = np.zeros(len(prefix), np.int64)
    for level, size in enumerate(sizes):
        key = key * size + prefix[:, level]
    return key


def _count_up(key: Ints) -> Ints:
    """(N,) how many earlier rows have the same key."""
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.r_[True, np.diff(key[order]) != 0])
    count = np.empty(len(key), np.int64)
    count[order] = np.arange(len(key)) - np.repeat(begin, np.diff(np.r_[begin, len(key)]))
    return count


def _equal_rows(embedding: Floats) -> tuple[Ints, Ints]:
    """First row of each set of equal rows, and (I,) the set of each row.

    Equal rows must get equal codes; a quantiser that levels its loads out would tear them apart. Rows are compared by a
    64-bit hash: two that agree by chance share a prefix and differ in the last digit, as any collision does.
    """
    bits = (np.ascontiguousarray(embedding, np.float32) + 0.0).view(np.uint32)  # + 0.0 makes -0.0 and 0.0 one
    factor = np.random.default_rng(0).integers(1, 2**63, embedding.shape[1], np.uint64) | np.uint64(1)
    mixed = np.zeros(len(bits), np.uint64)
    for column, odd in zip(bits.T, factor, strict=True):
        mixed += (column.astype(np.uint64) + np.uint64(1)) * odd
        mixed ^= mixed >> np.uint64(29)
    _, first, equal = np.unique(mixed, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    return first[order], rank[equal.ravel()]


_FILE: Final = "semantic_ids"
_DISTANCES: Final = 1 << 22
"""distances in memory at once"""
