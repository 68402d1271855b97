"""What the speed benchmark runs: a made-up catalogue, our model with random weights, and T5 of the same size as TIGER has it.

Speed does not depend on what the weights have learnt, only on their number and on the shape of the trie. Semantic ids are
drawn so that some codes are much more frequent than others, as residual k-means has it, with a last digit for collisions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rolegen_backbone.decoding import Decoded, beam_search, decoder_alone
from rolegen_backbone.features import POOL_FEATURES, USER_FEATURES
from rolegen_backbone.model import CANDIDATE_FEATURES, EVENT_FEATURES, Backbone, BackboneConfig, Batch
from rolegen_backbone.trie import Trie
from rolegen_errors import MissingExtraError

Ints = npt.NDArray[np.int64]
SLATE = 10
CODEBOOK = 256
CONTENT = 64
"""width of the made-up item embedding"""
POOL = 200
"""pool items of a decision where the whole mixture is timed"""
FIRST_TOKEN = 2
"""T5's vocabulary begins with padding and the end of a sequence"""


def drawn_codes(items: int, seed: int = 0) -> tuple[Ints, tuple[int, ...]]:
    """Ids (items, 4) of three uneven levels of 256 codes and a digit that resolves collisions, and their sizes."""
    random = np.random.default_rng(seed)
    weight = (np.arange(CODEBOOK) + 8.0) ** -0.7
    prefix = np.stack(
        [random.permutation(CODEBOOK)[random.choice(CODEBOOK, items, p=weight / weight.sum())] for _ in range(3)],
        axis=1,
    )
    key = prefix @ np.array([CODEBOOK**2, CODEBOOK, 1])
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0])
    digit = np.empty(items, np.int64)
    digit[order] = np.arange(items) - np.repeat(begin, np.diff(np.r_[begin, items]))
    return np.column_stack([prefix, digit]), (CODEBOOK, CODEBOOK, CODEBOOK, int(digit.max()) + 1)


def branching_codes() -> tuple[Ints, tuple[int, ...]]:
    """Ids (4 * 256 ** 2, 4) of a trie without a shortcut: each prefix has 256, 256, 2 and 2 real children."""
    grid = np.indices((CODEBOOK, CODEBOOK, 2, 2)).reshape(4, -1).T
    return grid * np.array([1, 1, 100, 100]), (CODEBOOK,) * 4


@dataclass(frozen=True)
class Shape:
    """Width and depth of our model."""

    width: int = 256
    layers: int = 2
    decoder_layers: int = 2


def backbone(codes: Ints, sizes: tuple[int, ...], shape: Shape, *, dense: bool = False) -> Backbone:
    """Our model with random weights over a catalogue of these ids."""
    torch.manual_seed(0)
    config = BackboneConfig(
        items=len(codes),
        content=CONTENT,
        sizes=sizes,
        roles=9,
        width=shape.width,
        layers=shape.layers,
        decoder_layers=shape.decoder_layers,
        use_dense=dense,
    )
    return Backbone(config, torch.randn(len(codes), CONTENT), torch.from_numpy(codes), Trie(codes, sizes)).eval()


def batch_of(items: int, users: int, history: int, device: torch.device, *, pool: int = 0) -> Batch:
    """Random decisions with full histories, and ``pool`` items in each pool."""
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).to(device)

    def whole(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=draw).to(device)

    return Batch(
        item_BT=whole(items, users, history) + 1,
        behaviour_BT=whole(4, users, history),
        event_BTX=normal(users, history, EVENT_FEATURES),
        event_mask_BT=torch.ones(users, history, dtype=torch.bool, device=device),
        event_role_BT=torch.zeros(users, history, dtype=torch.long, device=device),
        key_BY=torch.zeros(users, 0, dtype=torch.long, device=device),
        key_mask_BY=torch.zeros(users, 0, dtype=torch.bool, device=device),
        user_BU=normal(users, len(USER_FEATURES)),
        pool_BP=whole(items, users, pool),
        pool_BPF=normal(users, pool, len(POOL_FEATURES)),
        pool_real_BP=torch.ones(users, pool, dtype=torch.bool, device=device),
        pool_mask_BP=torch.ones(users, pool, dtype=torch.bool, device=device),
        candidate_BC=whole(1, users, 1),
        role_BC=whole(1, users, 1),
        candidate_BCX=normal(users, 1, CANDIDATE_FEATURES),
        candidate_mask_BC=torch.zeros(users, 1, dtype=torch.bool, device=device),
    )


@dataclass(frozen=True)
class Server:
    """Our model behind what is constant between decisions."""

    model: Backbone
    alive: list[Tensor]
    available: Tensor

    @classmethod
    def of(cls, model: Backbone, *, available: npt.NDArray[np.bool_] | None = None) -> Server:
        """``model`` as :func:`~rolegen_backbone.serving.prepare` made it; everything is available by default."""
        stock = np.ones(model.config.items, bool) if available is None else available
        return cls(model, model.trie.alive(stock), torch.from_numpy(stock).to(model.content.device))

    @torch.inference_mode()
    def slate(self, batch: Batch, beam: int, *, mixture: bool = False) -> Decoded:
        """From events to a slate of ten: by the decoder alone, or by the whole mixture."""
        encoded = self.model.encode(batch)
        mixed = self.model.mix(batch, encoded) if mixture else decoder_alone(encoded)
        return beam_search(
            self.model, encoded, mixed, alive=self.alive, available=self.available, size=min(SLATE, beam), beam=beam
        )

    @torch.inference_mode()
    def dense(self, batch: Batch) -> Tensor:
        """(B, 10) best items of the plain item model: a score for each item of the catalogue."""
        score = self.model.log_dense(self.model.encode(batch).state_BD)
        return score.masked_fill_(~self.available, -torch.inf).topk(SLATE).indices


class T5Peer:
    """Hugging Face T5 in the sizes of TIGER (Rajput et al. 2023, arXiv 2305.05065), constrained by a dictionary trie.

    It reads the flattened semantic ids, as TIGER does: one token for each level of each event.

    Raises:
        MissingExtraError: transformers is not installed.
    """

    def __init__(self, codes: Ints, sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        try:
            from transformers import T5Config, T5ForConditionalGeneration
        except ImportError:
            raise MissingExtraError("transformers", "bench") from None
        offset = FIRST_TOKEN + np.r_[0, np.cumsum(sizes)[:-1]]
        self.tokens = codes + offset
        self.device = device
        # The library types neither the options that all configurations share nor what its models return.
        configure: Any = T5Config
        build: Any = T5ForConditionalGeneration
        config = configure(
            vocab_size=FIRST_TOKEN + sum(sizes),
            d_model=128,
            d_kv=64,
            d_ff=896,
            num_layers=4,
            num_decoder_layers=4,
            num_heads=6,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
        torch.manual_seed(0)
        self.model: Any = build(config).eval().to(device=device, dtype=dtype)
        self.root: dict[int, Any] = {}
        for path in self.tokens.tolist():
            node = self.root
            for token in path:
                node = node.setdefault(token, {})
        self.items = {tuple(path): item for item, path in enumerate(self.tokens.tolist())}

    def _allowed(self, _row: int, prefix: Tensor) -> list[int]:
        node = self.root
        for token in prefix.tolist()[1:]:  # the first one starts the decoder
            node = node[token]
        return list(node)

    def reader(self, batch: Batch) -> Callable[[int], list[list[int | None]]]:
        """What gives slates (B, 10) at a beam for the histories of ``batch``; None where a path is no item."""
        history = torch.from_numpy(self.tokens)[batch.item_BT.cpu() - 1].flatten(1).to(self.device)
        levels = self.tokens.shape[1]

        def slates(beam: int) -> list[list[int | None]]:
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=history,
                    attention_mask=torch.ones_like(history),
                    num_beams=beam,
                    num_return_sequences=SLATE,
                    max_new_tokens=levels,
                    min_new_tokens=levels,
                    do_sample=False,
                    prefix_allowed_tokens_fn=self._allowed,
                )
            paths = out[:, 1:].view(len(history), SLATE, -1).tolist()
            return [[self.items.get(tuple(path)) for path in row] for row in paths]

        return slates


def parameters(model: torch.nn.Module) -> int:
    """Number of weights."""
    return sum(weight.numel() for weight in model.parameters())


def must_do_flops(shape: Shape, *, events: int, beam: int, fan: tuple[int, ...]) -> float:
    """Floating-point operations that one user needs, in an encoder of events and a decoder that attends to them.

    The analogue, for this shape, of the count for a decoder-only model. A multiplication with its addition counts as two.
    With width d, T = events + 1 tokens, and K_l beams that arrive on level l (K_0 = 1, min(beam, all prefixes) after):

    - encoder, each layer: ``24 d² T`` for its matrices (12 of d x d: query, key, value, out, and 8 in the feed-forward
      network) and ``4 d T²`` for scores and mixing;
    - the events' keys and values, once for each decoder layer: ``4 d² T``, shared by all beams;
    - decoder, each layer and each arriving beam: ``28 d²`` (self-attention 4 d x d matrices, cross-attention 2, feed-forward 8),
      ``4 d T`` for the cross-attention and ``4 d (l + 1)`` for attention to the codes so far;
    - level 0 has one code so far, so no query and no score is needed: ``2 d² + 4 d`` less;
    - ``2 d`` for each real child of an arriving beam, not for each code of the codebook.

    Not counted, though it is done: embeddings, norms, activations, softmax, gathers, the selection of the beams, logits of
    codes that no child has, and everything that pads.

    Args:
        fan: children of every node on each level: only for tries as even as that of :func:`branching_codes`.
    """
    d, T = shape.width, events + 1
    flops = float(shape.layers * (24 * d * d * T + 4 * d * T * T) + shape.decoder_layers * 4 * d * d * T)
    arriving = 1
    for level, children in enumerate(fan):
        each = 28 * d * d + 4 * d * T + 4 * d * (level + 1)
        if level == 0:
            each -= 2 * d * d + 4 * d
        flops += arriving * (shape.decoder_layers * each + 2 * d * children)
        arriving = min(beam, arriving * children)
    return flops
