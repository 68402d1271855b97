"""The networks of the run. All are the backbone, with other parts switched on.

- *ours*: one causal encoder, of which the dense part and the decoder over semantic ids learn side by side; an item is its
  title, its own vector and its codes;
- *sasrec*: the dense part alone, an item is its own vector and nothing else. That is SASRec (Kang and McAuley 2018, arXiv
  1808.09781) with a softmax over 1,024 shared negatives in place of one, by which it is known to come out far better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import nn

from rolegen_backbone.embedding import ItemEncoder, behaviour_embedding
from rolegen_backbone.events import Baskets
from rolegen_backbone.model import Backbone, BackboneConfig
from rolegen_backbone.next_item_training import NextItemConfig, encode_histories, fit_next_item
from rolegen_backbone.tokenizer import SemanticIds
from rolegen_backbone.trie import Trie

from .protocol import SIZE, Beauty, Floats, Ints, best

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Recipe:
    """Sizes and training of one network."""

    width: int = 128
    heads: int = 2
    layers: int = 1
    dropout: float = 0.25
    history: int = 50
    levels: int = 3
    codebook: int = 256
    """as in TIGER; a first code that leaves fewer items to choose from leaves less for prefixes to tell"""
    training: NextItemConfig = field(default_factory=NextItemConfig)

    def seeded(self, seed: int) -> Recipe:
        return replace(self, training=replace(self.training, seed=seed))


OURS = Recipe()
SASREC = Recipe(heads=1, dropout=0.2, training=NextItemConfig(epochs=16, negatives=1024))


@dataclass(frozen=True)
class Fitted:
    """A trained network and the titles' vectors (I, E) that it was given."""

    model: Backbone
    text_IE: Floats


def fit_ours(data: Beauty, recipe: Recipe, *, folder: Path, progress: Progress) -> Fitted:
    """Titles, ids from titles and shared histories, then the network; all from the training part alone."""
    seed = recipe.training.seed
    frame = pl.DataFrame(
        {"title": data.titles, "category": None, "price": None},
        schema={"title": pl.String, "category": pl.String, "price": pl.Float64},
    )
    encoder = ItemEncoder.fit(frame, width=recipe.width, seed=seed)
    behaviour, seen = behaviour_embedding(as_baskets(data.train), data.items, width=recipe.width, seed=seed)
    ids = SemanticIds.fit(
        encoder.encode(frame, behaviour, seen), levels=recipe.levels, codebook=recipe.codebook, seed=seed
    )
    text = encoder.text.encode(data.titles)
    model = _model(data, recipe, text, ids.codes, ids.sizes)
    fit_next_item(model, data.train, recipe.training, folder=folder, progress=progress)
    return Fitted(model, text)


def fit_sasrec(data: Beauty, recipe: Recipe, *, folder: Path, progress: Progress) -> Backbone:
    """An item is a vector of its own: what content and codes would add is nothing, and stays nothing."""
    number = np.arange(data.items)[:, None]
    model = _model(data, recipe, np.zeros((data.items, 1), np.float32), number, (data.items,), use_decoder=False)
    _silence(model.content_in, model.code_in)
    fit_next_item(model, data.train, recipe.training, folder=folder, progress=progress)
    return model


def _model(
    data: Beauty,
    recipe: Recipe,
    content: Floats,
    codes: Ints,
    sizes: tuple[int, ...],
    *,
    use_decoder: bool = True,
) -> Backbone:
    config = BackboneConfig(
        items=data.items,
        content=content.shape[1],
        sizes=sizes,
        roles=1,
        width=recipe.width,
        heads=recipe.heads,
        layers=recipe.layers,
        history=recipe.history,
        dropout=recipe.dropout,
        use_decoder=use_decoder,
        use_dense=True,
        use_own=False,
        use_market=False,
        use_ids=True,
        own_codes=use_decoder,
        causal=True,
    )
    torch.manual_seed(recipe.training.seed)
    model = Backbone(config, torch.from_numpy(content), torch.from_numpy(codes), Trie(codes, sizes))
    # Of these events the item is all that is known. One vector that all of them share slows learning down by half.
    _silence(model.behaviour_in, model.event_in, model.user_in)
    return model


def _silence(*parts: nn.Module) -> None:
    """Make parts add nothing, for good."""
    for part in parts:
        for weight in part.requires_grad_(False).parameters():
            weight.zero_()


def as_baskets(histories: Sequence[Ints]) -> Baskets:
    """Each history as one basket of distinct items."""
    own = [np.unique(history) for history in histories]
    user = np.arange(len(own))
    return Baskets(
        user=user,
        day=np.zeros_like(user),
        start=np.concatenate([[0], np.cumsum([len(items) for items in own])]),
        item=np.concatenate(own),
        previous=np.full_like(user, -1),
    )


@torch.no_grad()
def dense_slates(model: Backbone, known: Sequence[Ints], *, masked: bool) -> Ints:
    """Slates (U, SIZE) of the dense part alone, exact."""
    slates = np.empty((len(known), SIZE), np.int64)
    for rows, encoded in encode_histories(model, known):
        score = model.log_dense(encoded.state_BD).numpy()
        slates[rows] = best(score, [known[row] for row in rows], masked=masked)
    return slates
