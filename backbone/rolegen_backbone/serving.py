"""A trained model made ready to answer: what stays the same from decision to decision is computed once.

Every item's vector is looked up in a table, and the large matrices may be held in bfloat16, of which processors and
accelerators multiply several times as many a second. What is counted, normalised to a probability or pointed at stays in
float32: bfloat16 keeps three digits.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from .model import Backbone

TRUNK = ("layers", "decoder", "decoder_norm", "code_in", "told_in", "code_out")
"""the modules that may be held in a narrower type"""


def prepare(
    model: Backbone, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> Backbone:
    """A copy of ``model`` for inference on ``device`` (default: where it is), with its trunk in ``dtype``.

    It answers as ``model`` does, up to rounding; it does not follow later changes of ``model``, and cannot be trained.
    """
    # What training never changes is shared, not copied: the content of a million items alone takes hundreds of megabytes.
    shared = [model.content, model.codes, *model.trie.buffers()]
    served = copy.deepcopy(model, {id(constant): constant for constant in shared}).eval().requires_grad_(False)
    if device is not None:
        served = served.to(device)
    with torch.no_grad():
        rows = torch.arange(served.config.items + 1, device=served.content.device).split(65_536)
        table = torch.empty(served.config.items + 1, served.config.width, dtype=dtype, device=served.content.device)
        for part in rows:
            table[part] = served.item_vector(part).to(dtype)
        if served.config.use_dense:
            served.dense_table = torch.empty_like(table[1:])
            for part in rows:
                served.dense_table[part[part > 0] - 1] = served.dense_items(table[part[part > 0]].float()).to(dtype)
        served.item_table = table
        for name in TRUNK:
            served.get_submodule(name).to(dtype)
        for name in ("begin", "level_in"):
            parameter = cast(nn.Parameter, getattr(served, name))
            parameter.data = parameter.data.to(dtype)
    return served
