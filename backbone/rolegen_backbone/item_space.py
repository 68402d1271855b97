"""What a model is told about its items before it learns anything: catalogue rows, embeddings, semantic ids.

It is fitted once for a training. :meth:`ItemSpace.extend` adds items that appear later to it: they are embedded by the
same map and get free ids, and nothing changes for the items that were there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from rolegen_errors import InputError

from .embedding import ItemEncoder, behaviour_embedding, fold_in
from .events import Baskets, Floats, Ints
from .text_encoder import TextEncoder, unit_rows
from .tokenizer import SemanticIds

COLUMNS: Final = ("item", "title", "category", "price")


@dataclass(frozen=True)
class ItemSpace:
    """I items, sorted by item id; every array is by position."""

    items: pl.DataFrame
    """at least :data:`COLUMNS`"""
    content: Floats
    """(I, E) embeddings"""
    some_item: Floats
    """(E,) embedding of an unknown item: the mean over the items of the training"""
    ids: SemanticIds
    encoder: ItemEncoder

    @property
    def text(self) -> Floats:
        """(I, width) unit rows of what the items' texts say; zero rows for items without text."""
        return unit_rows(self.content[:, : self.encoder.width])

    @classmethod
    def fit(
        cls,
        items: pl.DataFrame,
        baskets: Baskets,
        *,
        levels: int,
        codebook: int,
        quantiser: str,
        encoder: TextEncoder | None,
        seed: int,
    ) -> ItemSpace:
        """Embed and quantise a catalogue, with what ``baskets`` tell of it; ``encoder`` takes the place of TF-IDF."""
        fitted = ItemEncoder.fit(items, encoder=encoder, seed=seed)
        content = fitted.encode(items, *behaviour_embedding(baskets, len(items), width=fitted.width, seed=seed))
        ids = SemanticIds.fit(content, levels=levels, codebook=codebook, seed=seed, quantiser_name=quantiser)
        return cls(items, content, content.mean(axis=0), ids, fitted)

    def extend(self, items: pl.DataFrame, baskets: Baskets, *, before_day: int | None) -> tuple[ItemSpace, Ints]:
        """The same space over a larger catalogue.

        Args:
            items: :data:`COLUMNS` of all items, old and new, sorted by item. Old items keep the row, the embedding and the
                id that they have; a new one without a category gets that of the old item with the most similar text.
            baskets: over ``items``.
            before_day: baskets of earlier days tell of the new items; without it a new item is its text and price.

        Returns:
            The larger space, and (I,) the old position of each of its items, -1 for new ones.

        Raises:
            InputError: ``items`` lacks a column or an old item, names one twice, or is not sorted.
            ProjectError: no id is free near a new item, or its text needs an encoder that is not at hand.
        """
        if missing := sorted({*COLUMNS} - {*items.columns}):
            raise InputError(f"the catalogue lacks the columns {missing}", fix=f"pass {', '.join(COLUMNS)}")
        names = items["item"].to_list()
        lost = sorted({*self.items["item"].to_list()} - {*names})
        if lost:
            raise InputError(
                f"the catalogue lacks items of the training, for instance {lost[:5]}", fix="add them to it"
            )
        if any(one >= other for one, other in pairwise(names)):
            raise InputError("the catalogue is not sorted, or names an item twice", fix="sort it by item, each once")
        place = {item: row for row, item in enumerate(self.items["item"].to_list())}
        source = np.array([place.get(item, -1) for item in names], np.int64)
        new, old = np.flatnonzero(source < 0), np.flatnonzero(source >= 0)
        if not len(new):
            return self, source
        rows = items[new].select(COLUMNS)
        rows = rows.with_columns(self.encoder.nearest_categories(rows, self.items["category"], self.content))
        if before_day is None:
            added = self.encoder.encode(rows)
        else:
            known = self.encoder.behaviour_of(self.content)[source[old]]
            added = self.encoder.encode(rows, *fold_in(baskets, known, old, new, before_day=before_day))
        # Old rows first, then the new ones: where each position of the larger catalogue finds its own.
        where = np.where(source >= 0, source, len(self.items) - 1 + (source < 0).cumsum())
        frame = pl.concat([self.items, rows], how="diagonal_relaxed")[where]
        content = np.concatenate([self.content, added])[where]
        return ItemSpace(frame, content, self.some_item, self.ids.extend(added).take(where), self.encoder), source

    def save(self, folder: Path) -> None:
        """Write ``items.parquet``, ``content.safetensors``, ``semantic_ids.*`` and ``item_encoder.*``."""
        self.items.write_parquet(folder / "items.parquet")
        save_file(
            {"content": np.ascontiguousarray(self.content), "some_item": self.some_item}, folder / "content.safetensors"
        )
        self.ids.save(folder)
        self.encoder.save(folder)

    @classmethod
    def load(cls, folder: Path, encoder: TextEncoder | None = None) -> ItemSpace:
        """Read what :meth:`save` wrote.

        Args:
            encoder: the text encoder of the training, if it was not TF-IDF; only needed to :meth:`extend`.

        Raises:
            ProjectError: files are missing, or ``encoder`` is another one.
        """
        arrays = load_file(folder / "content.safetensors")
        return cls(
            items=pl.read_parquet(folder / "items.parquet"),
            content=arrays["content"],
            some_item=arrays["some_item"],
            ids=SemanticIds.load(folder),
            encoder=ItemEncoder.load(folder, encoder),
        )
