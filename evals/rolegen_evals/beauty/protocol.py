"""Leave-one-out on Amazon Beauty, and how slates are judged.

Of each user's history in time order the last item is the test target and the last but one the validation target; models
learn from what comes before both. Every item of the catalogue is ranked. Slates hold items, not codes, so that no
collision of ids can count as a hit. In this data nobody has an item twice, so what a user has is left out of every
system's slates, ours and baselines alike; baselines are also measured without that, as some publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import InputError, ProjectError

from ..metrics import scores

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Split = Literal["test", "validation"]
SIZE = 10
"""items of a slate"""
FOLDER = "amazon_beauty"
METRICS = ("recall1", "recall5", "recall10", "ndcg5", "ndcg10")


@dataclass(frozen=True)
class Beauty:
    """Histories of U users over I items, and the items' titles."""

    histories: Sequence[Ints]
    """each at least four items, in time order"""
    titles: Sequence[str]

    @classmethod
    def read(cls, data: Path | None) -> Beauty:
        """Read ``amazon_beauty/sequences.parquet`` and ``items.parquet`` below ``data``, or in it.

        Raises:
            ProjectError: no folder was given, or the files are not there.
            InputError: a column is missing, an item has no row, or a history is too short to be split.
        """
        fix = (
            f"pass --data DIR, where DIR/{FOLDER} holds items.parquet (item_id, title) and sequences.parquet (user_id, "
            "item_ids in time order) of the 5-core Amazon Beauty reviews of 2014 (McAuley et al.), which may not be shipped"
        )
        if data is None:
            raise ProjectError("the Beauty benchmark needs data that is not shipped", fix=fix)
        folder = data / FOLDER if (data / FOLDER).is_dir() else data
        tables = []
        for name, columns in (("items", ["item_id", "title"]), ("sequences", ["item_ids"])):
            path = folder / f"{name}.parquet"
            if not path.exists():
                raise ProjectError(f"there is no {path.name}", where=str(path), fix=fix)
            table = pl.read_parquet(path)
            if missing := [column for column in columns if column not in table.columns]:
                raise InputError(f"column {missing[0]!r} is missing", where=str(path), fix=fix)
            tables.append(table.select(columns))
        items, sequences = tables
        place = {item: row for row, item in enumerate(items["item_id"].to_list())}
        histories = []
        for row, own in enumerate(sequences["item_ids"].to_list()):
            if strange := [item for item in own if item not in place]:
                raise InputError(f"item {strange[0]!r} of sequence {row} is not in items.parquet", where=str(folder))
            if len(own) < 4:
                raise InputError(f"sequence {row} has {len(own)} items, a split needs 4", where=str(folder))
            histories.append(np.array([place[item] for item in own], np.int64))
        return cls(histories, items["title"].fill_null("").to_list())

    def first(self, users: int) -> Beauty:
        """The first users only, over the same items."""
        return Beauty(self.histories[:users], self.titles)

    @property
    def items(self) -> int:
        return len(self.titles)

    @cached_property
    def train(self) -> list[Ints]:
        """What models and statistics may learn from, whichever split is judged."""
        return [own[:-2] for own in self.histories]

    def known(self, split: Split) -> list[Ints]:
        """What is known of each user when the split's target is to be told."""
        return [own[:-1] for own in self.histories] if split == "test" else self.train

    def target(self, split: Split) -> Ints:
        """(U,)"""
        return np.array([own[-1 if split == "test" else -2] for own in self.histories])


def best(score_UI: Floats, known: Sequence[Ints], *, masked: bool = True) -> Ints:
    """Slates (U, :data:`SIZE`) from scores, which are overwritten; ties go to the lower item number."""
    if masked:
        score_UI[np.repeat(np.arange(len(known)), [len(own) for own in known]), np.concatenate(known)] = -np.inf
    top = np.sort(np.argpartition(-score_UI, SIZE - 1, axis=1)[:, :SIZE], axis=1)
    order = np.argsort(-np.take_along_axis(score_UI, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1).astype(np.int64)


def judge(slates: Ints, target: Ints) -> Mapping[str, npt.NDArray[np.float64]]:
    """:data:`METRICS` of each user: recall@k is 1 if the target is among the first k, NDCG@k is 1 / log2(rank + 1) then.

    Args:
        slates: (U, :data:`SIZE`) items, best first; -1 fills up a slate that has fewer.
    """
    shown = {str(user): [str(item) for item in slate if item >= 0] for user, slate in enumerate(slates.tolist())}
    wanted = {str(user): [str(item)] for user, item in enumerate(target.tolist())}
    ten, five = scores(shown, wanted, 10), scores(shown, wanted, 5)
    return {
        "recall1": ten.hit1,
        "recall5": five.recall,
        "recall10": ten.recall,
        "ndcg5": five.ndcg,
        "ndcg10": ten.ndcg,
    }
