"""The Generative Behavioral Backbone: one model, one file.

What it is:
 - an event encoder: a small pre-norm transformer over the user's last events (item content and codes, behaviour, time
   gap, quantity, price) with one token that carries what can be counted about the user;
 - a decoder over semantic ids: causal transformer with cross-attention into the encoded events, scaled-cosine logits
   (against popularity hubs), normalised over the codes that the trie allows, so that it is a distribution over items.
   Where somebody has read the trajectory, the key events stand before the codes as a prefix;
 - a dense part, off by default: scaled cosine with every item of the catalogue, the plain item model beside the decoder;
 - two pointers over the *pool* of the decision, scored from features as of the decision time: *own*, over the user's own
   items (the repeat mechanism, after the pointer-generator of See et al. 2017, arXiv 1704.04368, and the split into repeat
   and explore of RepeatNet, Ren et al. 2019, arXiv 1812.02646), and *market*, over what sells now, what sold in these
   weeks last year and what goes with the user's last baskets;
 - a last pointer over the reasoned candidates with their roles, behind a learned gate that can never exceed
   ``candidate_cap``: useless or hostile candidates move at most that much probability. The decoder has a cap too: by
   likelihood it deserves half of the gate, but it orders a user's own items worse than their pointer does;
 - an outcome head: an ensemble on the encoded user for the probability of a net order within the horizon.

The next item's distribution is the mixture ``g_decoder p_decoder + g_dense p_dense + g_own p_own + g_market p_market +
g_cand p_cand``. A mixture over items is also a mixture over trie prefixes, which is why one beam search over the trie finds the best of all.

Shapes: B decisions, T events, P pool items, C candidates, Y key events, S target items, L code levels, D width.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .features import POOL_FEATURES, USER_FEATURES
from .trie import Trie

PARTS = ("decoder", "dense", "own", "market", "candidates")
"""the distributions that the next item's distribution is a mixture of, in the order of their gates"""
EVENT_FEATURES = 4
"""log days before the decision, its square-root scale, log quantity, log price"""
CANDIDATE_FEATURES = 2
"""retrieval score, share of the decision's candidates with the same item"""
UNKNOWN_ITEM = 0
"""content row 0 stands for "some item" and holds the mean content; item i is row i + 1"""
GATE_FACTS = 6
"""of the pool, beside the facts of the user: see :meth:`PoolView.facts`"""
CLOSED = 60.0
"""what is taken from the gate's logit of a part that is switched off"""
NOTHING = -1e4
"""log probability of what cannot be, finite so that sums and gradients stay numbers"""
LOUD = 15.0
"""standard deviations at which a counted feature is cut: a wholesaler is no thousand customers; at 6 it cost hit@1"""
OWNED = POOL_FEATURES.index("owned")
RECENCY = 0.8
"""weight of an event in the recent content, for each event that came after it"""


@dataclass(frozen=True)
class BackboneConfig:
    """Sizes and rates of the model; everything else is learned."""

    items: int
    content: int
    sizes: tuple[int, ...]
    roles: int
    behaviours: int = 5
    width: int = 64
    heads: int = 4
    layers: int = 2
    decoder_layers: int = 1
    history: int = 96
    dropout: float = 0.2
    candidate_cap: float = 0.35
    decoder_cap: float = 0.15
    pool_heads: int = 4
    outcome_heads: int = 8
    use_decoder: bool = True
    use_dense: bool = False
    use_own: bool = True
    use_market: bool = True
    use_prefix: bool = True
    """whether the decoder has the key events before the codes, and the encoder their roles"""
    dense_top: int = 2048
    """items that the dense part hands to the beam search; a catalogue of at most so many is searched exactly"""
    use_ids: bool = False
    """a vector of its own for every item, added to those of content and codes, and a bias of its own in the dense part, which
    then takes products, not cosines: where items sell often enough, and no pointer knows what is popular"""
    own_codes: bool = False
    """the codes that the decoder has told so far get vectors of their own, as long at first as the state that they are added
    to. Those of the item's inputs, which it takes otherwise, begin at a twentieth of that, and it learns slowly to heed them"""
    causal: bool = False
    """an event sees itself and those before it, and the user's state is that of the last one, so that all positions of a
    history learn at once (``next_item_training.py``); order is told by a learned bias by distance, inputs are dropped out"""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BackboneConfig:
        return cls(**{**data, "sizes": tuple(data["sizes"])})


class Attention(nn.Module):
    """Multi-head attention of ``x_BTD`` to ``memory_BSD``, keys and values computed by :meth:`remember`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def remember(self, memory_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, D / heads): the cache of decoding."""
        return self.split_pairs(self.key_value(memory_BSD))

    def split_pairs(self, pair_BSE: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, D / heads) from both side by side (B, S, 2 D)."""
        key, value = pair_BSE.chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(self, x_BTD: Tensor, cache: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        key, value = cache
        # No dropout on the attention weights: drawing B x heads x T x T random numbers cost a fifth of a training step.
        mixed = F.scaled_dot_product_attention(self._split(self.query(x_BTD)), key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def attend_few(self, x_BKD: Tensor, few: list[Tensor], there: Tensor) -> Tensor:
        """Attention of each of K queries to a few keys of its own: ``few`` holds (B, K or 1, 2 D) keys and values.

        ``there`` (B, Y) says which of the first Y of them exist; all others do.

        A general kernel would start one tiny matrix product for each query and head, which costs many times the work
        itself where there are as few keys as codes in a semantic id.
        """
        if len(few) == 1:  # one key has all the weight
            return self.out(few[0].chunk(2, dim=-1)[1].expand_as(x_BKD))
        split = [pair.unflatten(-1, (2, self.heads, -1)).unbind(dim=2) for pair in few]  # (B, K or 1, heads, D / heads)
        query = self.query(x_BKD).unflatten(-1, (self.heads, -1))
        score = torch.stack([(query * key).sum(dim=-1, keepdim=True) for key, _ in split])
        if there.shape[1]:
            score[: there.shape[1]].masked_fill_(~there.T[:, :, None, None, None], -torch.inf)
        weight = (score * query.shape[-1] ** -0.5).softmax(dim=0)
        mixed = split[-1][1] * weight[-1]
        for number, (_, value) in enumerate(split[:-1]):
            mixed = torch.addcmul(mixed, value, weight[number])
        return self.out(mixed.flatten(2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        return x_BTD.view(B, T, self.heads, D // self.heads).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Position-wise network with GELU."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))

    def forward(self, input: Tensor) -> Tensor:
        if self.training or torch.is_grad_enabled():
            return super().forward(input)
        # The widest tensor of the model: a second one of its size costs as much as the function itself.
        return self[2](torch.ops.aten.gelu_(self[0](input)))


class PoolScorer(nn.Module):
    """Scores (N, K) of N pool items from (N, ``inputs``) counted facts: K small networks side by side.

    Trained each on its own loss and averaged when asked, they are a deep ensemble (Lakshminarayanan et al. 2017, arXiv
    1612.01474): the first item of a slate is a close call, and one network's noise decides it too often.
    """

    def __init__(self, inputs: int, heads: int, dropout: float, width: int = 32) -> None:
        super().__init__()
        self.heads, self.width, self.dropout = heads, width, dropout
        self.linear = nn.Linear(inputs, heads)
        self.first = nn.Linear(inputs, heads * width)
        self.second = nn.Parameter(torch.randn(heads, width, width) * 0.5 / math.sqrt(width))
        self.second_bias = nn.Parameter(torch.zeros(heads, 1, width))
        self.out = nn.Parameter(torch.randn(heads, width) * 0.5 / math.sqrt(width))

    def forward(self, fact_NF: Tensor) -> Tensor:
        # A pool has hundreds of items: rectifiers, which cost a third of GELU, and dropout once. See backbone/LOG.md.
        hidden = F.dropout(F.relu(self.first(fact_NF)), self.dropout, self.training)
        hidden = hidden.view(-1, self.heads, self.width).transpose(0, 1)
        hidden = F.relu(torch.baddbmm(self.second_bias, hidden, self.second))
        return torch.einsum("knh,kh->nk", hidden, self.out) + self.linear(fact_NF)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.feed = FeedForward(config.width, config.dropout)
        self.drop = nn.Dropout(config.dropout)
        # Of events so many places apart, for each head; the token of the user counts as the place before the first.
        self.near = nn.Parameter(torch.zeros(config.heads, config.history + 1)) if config.causal else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm1(x)
        if self.near is not None:
            places = torch.arange(x.shape[1], device=x.device)
            distance = places[:, None] - places
            bias = self.near[:, distance.clamp(0, self.near.shape[1] - 1)]
            mask = bias.masked_fill(~(mask & (distance >= 0)), -torch.inf)
        x = x + self.drop(self.attention(normed, self.attention.remember(normed), mask))
        return x + self.feed(self.norm2(x))


class DecoderLayer(nn.Module):
    """Pre-norm causal self-attention over codes, cross-attention into the events, feed-forward."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(config.width) for _ in range(3))
        self.attention = Attention(config.width, config.heads)
        self.cross = Attention(config.width, config.heads)
        self.feed = FeedForward(config.width, config.dropout)
        self.drop = nn.Dropout(config.dropout)

    def forward(
        self,
        x_NLD: Tensor,
        past: tuple[Tensor, Tensor],
        causal: Tensor | None,
        events: tuple[Tensor, Tensor],
        event_mask: Tensor,
        queries: int,
    ) -> Tensor:
        """One layer for N = B * ``queries`` code sequences of L tokens.

        ``past`` are the keys and values of the prefixes including ``x`` itself. All sequences of one decision share its
        events, so they attend as one long query and the events' keys are never copied.
        """
        N, L, D = x_NLD.shape
        x = x_NLD + self.drop(self.attention(self.norm1(x_NLD), past, causal))
        query = self.norm2(x).view(N // queries, queries * L, D)
        x = x + self.drop(self.cross(query, events, event_mask).reshape(N, L, D))
        return x + self.feed(self.norm3(x))

    def step(
        self, x_BKD: Tensor, past: list[Tensor], memory: Memory, event_mask: Tensor, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The layer for the newest code of K beams, and that code's keys and values (B, K, 2 D).

        ``past`` are those of the codes before it, (B, K or 1, 2 D) each; ``memory`` belongs to all beams of a decision.
        """
        normed = self.norm1(x_BKD)
        newest = self.attention.key_value(normed)
        x = x_BKD + self.attention.attend_few(normed, [*memory.prefix, *past, newest], prefix_mask)
        x = x + self.cross(self.norm2(x), memory.events, event_mask)
        return x + self.feed(self.norm3(x)), newest


@dataclass(frozen=True)
class Memory:
    """What one decoder layer attends to besides the codes: computed once a decision, shared by all its beams."""

    events: tuple[Tensor, Tensor]
    """keys and values (B, heads, T, D / heads)"""
    prefix: list[Tensor]
    """for each key event: keys and values (B, 1, 2 D)"""


@dataclass(frozen=True)
class CodeCache:
    """Keys and values of the codes decoded so far. Where beams are reordered only row numbers move."""

    levels: tuple[tuple[Tensor, ...], ...] = ()
    """for each level, for each layer: keys and values (B, beams of that level, 2 D)"""
    rows: tuple[Tensor | None, ...] = ()
    """for each level: (B, K) the beam of that level from which each present beam descends; None: each from itself"""

    def select(self, parent_BK: Tensor) -> CodeCache:
        """The cache of K beams that each go on from a present one."""
        return CodeCache(
            self.levels, tuple(parent_BK if rows is None else rows.gather(1, parent_BK) for rows in self.rows)
        )

    def past(self, layer: int) -> list[Tensor]:
        """Keys and values (B, K or 1, 2 D) of each code before the newest, for one layer."""
        found = []
        for of_layer, rows in zip(self.levels, self.rows, strict=True):
            pair = of_layer[layer]
            B, K, _ = pair.shape
            if rows is not None and K > 1:  # what all beams share is broadcast
                flat = rows + torch.arange(0, B * K, K, device=rows.device).unsqueeze(1)
                pair = pair.flatten(0, 1).index_select(0, flat.flatten()).view(B, -1, pair.shape[-1])
            found.append(pair)
        return found


@dataclass(frozen=True)
class Batch:
    """Padded inputs of B decisions; masks are True at real entries."""

    item_BT: Tensor
    """content rows, :data:`UNKNOWN_ITEM` for padding"""
    behaviour_BT: Tensor
    event_BTX: Tensor
    event_mask_BT: Tensor
    event_role_BT: Tensor
    """role that reasoning gave the event, counted from 1; 0 where it gave none"""
    key_BY: Tensor
    """places of the key events, in time order"""
    key_mask_BY: Tensor
    user_BU: Tensor
    pool_BP: Tensor
    """item indices"""
    pool_BPF: Tensor
    pool_real_BP: Tensor
    """False at padding"""
    pool_mask_BP: Tensor
    """False at padding and at items that only reasoned candidates brought in"""
    candidate_BC: Tensor
    """position of the candidate in the pool"""
    role_BC: Tensor
    candidate_BCX: Tensor
    candidate_mask_BC: Tensor


@dataclass(frozen=True)
class Encoded:
    """What the encoder knows of B decisions."""

    state_BD: Tensor
    memory_BTD: Tensor
    mask_BT: Tensor
    recent_BE: Tensor
    """content of the last events, weighted by recency: what an intervention changes most directly"""
    prefix_BYD: Tensor
    """the key events as the decoder has them before the codes"""
    prefix_mask_BY: Tensor


@dataclass(frozen=True)
class PoolView:
    """The pool of B decisions as its two scorers see it."""

    user_BU: Tensor
    """standardised facts"""
    score_BPK: Tensor
    """of each of K heads"""
    group_2BP: Tensor
    """which items the *own* and the *market* pointer may choose; what only reasoning brought in is in neither"""
    like_own_BP: Tensor
    """items that the user has bought before, in a pointer's group or not"""
    heat_2: Tensor
    """what the scores of either pointer are multiplied by, so that their softmax tells how often each item is bought"""

    @property
    def score(self) -> Tensor:
        """(B, P) the heads' mean, heated."""
        return self.score_BPK.mean(dim=-1) * torch.where(self.like_own_BP, self.heat_2[0], self.heat_2[1])

    def log_probability(self) -> Tensor:
        """(2, B, P) log probabilities of the own and the market pointer, -inf outside of each one's group."""
        return _log_share(self.score, self.group_2BP)

    def by_head(self) -> Tensor:
        """(2, B, P, K) the same for each head alone: what training looks at."""
        return _log_share(self.score_BPK.movedim(-1, 0).unsqueeze(1), self.group_2BP).movedim(0, -1)

    def facts(self, log_pointer_2BP: Tensor) -> Tensor:
        """(B, GATE_FACTS) how sure each pointer is, and whether it has anything to choose from."""
        probability = log_pointer_2BP.exp()
        # Not special.entr, whose gradient is infinite where an item has no probability.
        entropy = -(probability * log_pointer_2BP.clamp(min=-30)).sum(dim=-1)
        some = self.group_2BP.any(dim=-1)
        best = torch.where(some, probability.amax(dim=-1), 0.0)
        return torch.cat([entropy / 5, best, some.float()]).T

    def base(self, log_pointer_2BP: Tensor) -> Tensor:
        """(B, P) log probability of each item under the pointer of its kind; an item in neither group joins it alone."""
        mean = self.score
        total = mean.masked_fill(~self.group_2BP, -torch.inf).logsumexp(dim=-1)
        own, market = total.clamp(min=NOTHING).unsqueeze(-1)
        relative = mean - torch.where(self.like_own_BP, own, market)
        inside = torch.where(self.group_2BP, log_pointer_2BP, -torch.inf).amax(dim=0)
        return torch.where(self.group_2BP.any(dim=0), inside, F.logsigmoid(relative))


@dataclass(frozen=True)
class CandidateView:
    """What the candidate part sees of B decisions with C candidates."""

    fact_BX: Tensor
    """standardised facts of the user, and :meth:`PoolView.facts`"""
    base_BC: Tensor
    """:meth:`PoolView.base` of the candidates"""
    own_BC: Tensor
    role_BC: Tensor
    feature_BCX: Tensor
    mask_BC: Tensor


@dataclass(frozen=True)
class Pointer:
    """A distribution over a short list of X items for each of B decisions; -inf at padding."""

    item_BX: Tensor
    log_probability_BX: Tensor


@dataclass(frozen=True)
class Mixture:
    """The next item's distribution: log weights of :data:`PARTS`, and all parts but the decoder as pointers."""

    log_gate_BM: Tensor
    pointers: tuple[Pointer, ...]


class Backbone(nn.Module):
    """See the module's docstring. ``content`` is the fixed (I, E) item embedding, ``trie`` the prefixes of all items."""

    content: Tensor
    codes: Tensor
    user_mean: Tensor
    user_scale: Tensor
    pool_mean: Tensor
    pool_scale: Tensor
    usual_basket: Tensor
    """() items of a basket, mean over the training's returns"""
    item_table: Tensor | None = None
    """(I + 1, D) all item vectors, where the model only answers; see ``serving.py``"""
    dense_table: Tensor | None = None
    """(I, D) those of the items at length 1"""

    def __init__(self, config: BackboneConfig, content: Tensor, codes: Tensor, trie: Trie) -> None:
        super().__init__()
        self.config, self.trie = config, trie
        D = config.width
        content = content.float()
        self.register_buffer("content", torch.cat([content.mean(dim=0, keepdim=True), content]), persistent=False)
        self.register_buffer("codes", codes, persistent=False)
        # Standardisation of counted features, fitted on the training decisions and stored with the weights.
        for name, size in (("user", len(USER_FEATURES)), ("pool", len(POOL_FEATURES))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

        self.register_buffer("usual_basket", torch.tensor(1.0))
        self.content_in = nn.Linear(config.content, D)
        self.code_in = nn.ModuleList(nn.Embedding(size, D) for size in config.sizes)
        self.unknown = nn.Parameter(torch.zeros(D))
        # Of length one, like the content that they are added to; row 0 is the unknown item.
        self.item_in = nn.Parameter(torch.randn(config.items + 1, D) / math.sqrt(D)) if config.use_ids else None
        self.item_bias = nn.Parameter(torch.zeros(config.items + 1)) if config.use_ids else None
        self.behaviour_in = nn.Embedding(config.behaviours, D)
        self.event_in = nn.Linear(EVENT_FEATURES, D)
        self.event_role_in = nn.Embedding(config.roles + 1, D, padding_idx=0) if config.use_prefix else None
        self.key_in = nn.Parameter(torch.zeros(D)) if config.use_prefix else None
        self.user_in = nn.Sequential(nn.Linear(len(USER_FEATURES), D), nn.GELU(), nn.Linear(D, D))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)

        self.begin = nn.Parameter(torch.zeros(D))
        self.level_in = nn.Parameter(torch.zeros(len(config.sizes), D))
        self.told_in = nn.ModuleList(nn.Embedding(size, D) for size in config.sizes[:-1] if config.own_codes)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(D)
        self.code_out = nn.ModuleList(nn.Embedding(size, D) for size in config.sizes)
        self.temperature = nn.Parameter(torch.full((len(config.sizes),), math.log(8.0)))

        counted = len(POOL_FEATURES) + len(USER_FEATURES)
        self.own_score = PoolScorer(counted, config.pool_heads, config.dropout)
        self.market_score = PoolScorer(counted, config.pool_heads, config.dropout)
        self.wish = nn.Linear(D, D)
        self.dense_temperature = nn.Parameter(torch.tensor(math.log(12.0)))
        self.gate = nn.Linear(len(USER_FEATURES) + GATE_FACTS, len(PARTS) - 1)
        self.gate_heat = nn.Parameter(torch.zeros(2))

        self.role_in = nn.Embedding(config.roles, 16)
        self.candidate_score = nn.Sequential(nn.Linear(16 + CANDIDATE_FEATURES + 2, 32), nn.GELU(), nn.Linear(32, 1))
        self.candidate_gate = nn.Sequential(
            nn.Linear(len(USER_FEATURES) + GATE_FACTS + 3, 16), nn.GELU(), nn.Linear(16, 1)
        )

        K = config.outcome_heads
        self.outcome_in = nn.Linear(D + len(USER_FEATURES) + config.content, K * 16)
        self.outcome_out = nn.Parameter(torch.randn(K, 16) * 0.1)
        self.outcome_bias = nn.Parameter(torch.zeros(K))
        self.apply(_initialise)
        for table in self.told_in:
            nn.init.normal_(cast(nn.Embedding, table).weight)
        if config.causal:
            # Items begin as their own wishes: inputs and outputs share one space from the first step on.
            nn.init.eye_(self.wish.weight)

    # -- encoding -------------------------------------------------------------------------------------------------

    def item_vector(self, row: Tensor) -> Tensor:
        """(…, D) for content rows (…); row 0 is the unknown item.

        A batch names the same popular items over and over, so each distinct row is projected once.
        """
        if self.item_table is not None:
            return F.embedding(row, self.item_table).float()
        distinct, place = row.unique(return_inverse=True)
        vector = self.content_in(self.content[distinct])
        code = self.codes[(distinct - 1).clamp(min=0)]
        for level, table in enumerate(self.code_in):
            vector = vector + table(code[:, level])
        if self.item_in is not None:
            vector = vector + self.item_in[distinct]
        vector = torch.where((distinct > 0).unsqueeze(-1), vector, self.unknown)
        return F.embedding(place, vector)

    def standard(self, user_BU: Tensor) -> Tensor:
        """Standardised facts of users, cut at :data:`LOUD`: a date that training never saw must not shout."""
        return ((user_BU - self.user_mean) / self.user_scale).clamp(-LOUD, LOUD)

    def encode(self, batch: Batch) -> Encoded:
        """Encode events behind one token that carries the counted facts of the user."""
        user = self.standard(batch.user_BU)
        x = self.item_vector(batch.item_BT) + self.behaviour_in(batch.behaviour_BT) + self.event_in(batch.event_BTX)
        if self.event_role_in is not None:
            x = x + self.event_role_in(batch.event_role_BT)
        x = torch.cat([self.user_in(user).unsqueeze(1), x], dim=1)
        mask_BT = F.pad(batch.event_mask_BT, (1, 0), value=True)
        mask = mask_BT[:, None, None, :]
        if self.config.causal:
            x = F.dropout(x, self.config.dropout, self.training)
        x = x.to(self.begin.dtype)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x.float())
        after = batch.event_mask_BT.flip(1).cumsum(1).flip(1) - 1
        weight = RECENCY ** after.clamp(min=0) * batch.event_mask_BT
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
        recent = torch.einsum("bt,bte->be", weight, self.content[batch.item_BT])
        state = x[:, 0]
        if self.config.causal:
            last = (mask_BT * torch.arange(x.shape[1], device=x.device)).argmax(dim=1)
            state = x[torch.arange(len(x), device=x.device), last]
        if self.training and self.key_in is not None:
            # Processes add their gradients up one by one: each must have this one, also where its share holds no key event.
            state = state + 0.0 * self.key_in
        key, key_mask = batch.key_BY, batch.key_mask_BY
        if self.key_in is None or not key_mask.any():
            key, key_mask = key[:, :0], key_mask[:, :0]
        prefix = x.gather(1, (key + 1).unsqueeze(-1).expand(-1, -1, x.shape[-1]))  # the user's token stands first
        if self.key_in is not None:
            prefix = prefix + self.key_in
        return Encoded(state, x, mask_BT, recent, prefix, key_mask)

    # -- pointers and gates ---------------------------------------------------------------------------------------

    def point(self, batch: Batch) -> PoolView:
        """Score the pool: the user's own items by one network, all others by another, since they sell for other reasons."""
        user = self.standard(batch.user_BU)
        feature = (batch.pool_BPF - self.pool_mean) / self.pool_scale
        wide = torch.cat([feature, user.unsqueeze(1).expand(-1, feature.shape[1], -1)], dim=-1).clamp(-LOUD, LOUD)
        own = batch.pool_BPF[..., OWNED] > 0
        score = wide.new_zeros(*own.shape, self.config.pool_heads)
        for scorer, chosen in ((self.own_score, own), (self.market_score, batch.pool_real_BP & ~own)):
            score[chosen] = scorer(wide[chosen]).to(score.dtype)
        # Items that only reasoning brought in take no part in a pointer's softmax: otherwise many hostile candidates
        # would move mass through the pool, past the gate that bounds them.
        group = torch.stack([own, ~own]) & batch.pool_mask_BP
        return PoolView(user, score, group, own, self.gate_heat.exp())

    def view_candidates(self, batch: Batch, view: PoolView, log_pointer_2BP: Tensor) -> CandidateView:
        """All that the candidate part looks at; it does not depend on that part's own weights."""
        return CandidateView(
            fact_BX=torch.cat([view.user_BU, view.facts(log_pointer_2BP)], dim=-1),
            base_BC=view.base(log_pointer_2BP).gather(1, batch.candidate_BC),
            own_BC=view.like_own_BP.gather(1, batch.candidate_BC),
            role_BC=batch.role_BC,
            feature_BCX=batch.candidate_BCX,
            mask_BC=batch.candidate_mask_BC,
        )

    def weigh_candidates(self, view: CandidateView) -> tuple[Tensor, Tensor]:
        """The candidates' share (B,) of the mixture, at most ``candidate_cap``, and their log probabilities (B, C)."""
        base, mask = view.base_BC, view.mask_BC
        facts = [self.role_in(view.role_BC), view.feature_BCX, view.own_BC.unsqueeze(-1), (base / 5).unsqueeze(-1)]
        logit = (self.candidate_score(torch.cat(facts, dim=-1)).squeeze(-1) + base).masked_fill(~mask, -torch.inf)
        some = mask.any(dim=-1)
        # A row without candidates would be all -inf and its softmax undefined; its gate is closed instead.
        log_candidate = logit.masked_fill(~some[:, None], 0.0).log_softmax(dim=-1).masked_fill(~mask, -torch.inf)
        count = mask.sum(dim=-1, keepdim=True).float()
        mass = (base.exp() * mask).sum(dim=-1, keepdim=True)
        best = base.masked_fill(~mask, -12.0).amax(dim=-1, keepdim=True)
        wide = torch.cat([view.fact_BX, count / 10, mass, best / 10], dim=-1)
        share = self.config.candidate_cap * torch.sigmoid(self.candidate_gate(wide).squeeze(-1))
        return torch.where(some, share, torch.zeros_like(share)), log_candidate

    def mix(self, batch: Batch, encoded: Encoded) -> Mixture:
        """Gates and pointers."""
        view = self.point(batch)
        log_pointer = view.log_probability()
        share, log_candidate = self.weigh_candidates(self.view_candidates(batch, view, log_pointer))
        rest = self.log_gate(view, log_pointer) + torch.log1p(-share).unsqueeze(-1)
        log_share = torch.log(share.clamp(min=1e-30)).unsqueeze(-1)
        dense = Pointer(batch.pool_BP[:, :0], log_pointer[0, :, :0])
        if self.config.use_dense:
            log_dense, item = self.log_dense(encoded.state_BD).topk(min(self.config.dense_top, self.config.items))
            dense = Pointer(item, log_dense)
        own, market = (Pointer(batch.pool_BP, log_part) for log_part in log_pointer)
        candidate = Pointer(batch.pool_BP.gather(1, batch.candidate_BC), log_candidate)
        return Mixture(torch.cat([rest, log_share], dim=-1), (dense, own, market, candidate))

    def log_gate(self, view: PoolView, log_pointer_2BP: Tensor) -> Tensor:
        """(B, 4) log shares of all parts but the candidates, before these take theirs; a part that is off gets none.

        The decoder gets at most ``decoder_cap`` where another part has something to say, and else everything.
        """
        config, some = self.config, view.group_2BP.any(dim=-1)
        on = torch.ones_like(some[0])
        usable = torch.stack([on & config.use_dense, some[0] & config.use_own, some[1] & config.use_market], dim=-1)
        logit = self.gate(torch.cat([view.user_BU, view.facts(log_pointer_2BP)], dim=-1))
        rest = (logit[:, 1:] - CLOSED * ~usable).log_softmax(dim=-1)
        share = config.decoder_cap * torch.sigmoid(logit[:, :1])
        alone = ~usable.any(dim=-1, keepdim=True)
        share = torch.where(alone, 1.0, share) if config.use_decoder else torch.zeros_like(share)
        share = share.clamp(1e-30, 1 - 1e-6)  # finite logarithms and gradients
        return torch.cat([share.log(), rest + torch.log1p(-share)], dim=-1)

    def log_dense(self, state: Tensor) -> Tensor:
        """(…, I) log probability of every item by scaled cosine between state (…, D) and item: the plain item model."""
        wish, item = self.dense_sides(state)
        logit = (wish.to(item.dtype) @ item.T).float() * self.dense_temperature.exp()
        if self.item_bias is not None:
            logit = logit + self.item_bias[1:]
        return logit.log_softmax(dim=-1)

    def dense_sides(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the dense part multiplies: wishes (…, D) of states (…, D), and items (I, D); at length 1 for cosines."""
        item = self.dense_table
        if item is None:
            item = self.dense_items(self.item_vector(torch.arange(1, self.config.items + 1, device=state.device)))
        if self.item_bias is not None:
            # A state has a length of about the root of the width: so products are of the size of cosines.
            return self.wish(state) / math.sqrt(self.config.width), item
        return F.normalize(self.wish(state), dim=-1), item

    def dense_items(self, vector: Tensor) -> Tensor:
        """Item vectors (…, D) as the dense part takes them."""
        return F.normalize(vector, dim=-1) if self.item_bias is None else vector

    # -- decoding -------------------------------------------------------------------------------------------------

    def begin_decoding(self, encoded: Encoded) -> list[Memory]:
        """Keys and values of the events for each decoder layer: shared by all beams, never copied."""
        memory, prefix = encoded.memory_BTD.to(self.begin.dtype), encoded.prefix_BYD.to(self.begin.dtype)
        return [
            Memory(
                layer.cross.remember(memory),
                list(layer.attention.key_value(layer.norm1(prefix)).split(1, dim=1)) if prefix.shape[1] else [],
            )
            for layer in self._decoder_layers()
        ]

    def step(
        self,
        encoded: Encoded,
        memory: list[Memory],
        code_BK: Tensor | None,
        level: int,
        cache: CodeCache,
    ) -> tuple[Tensor, CodeCache]:
        """What the decoder knows (B, K, D) before the code of ``level`` of K beams, and the cache grown by one token.

        Args:
            memory: what :meth:`begin_decoding` returned.
            code_BK: the beams' last code; None on level 0, where there is one beam.
            cache: of these K beams; empty on level 0. See :meth:`CodeCache.select`.
        """
        state = encoded.state_BD.to(self.begin.dtype).unsqueeze(1)
        last = self.begin if code_BK is None else self._told(level - 1, code_BK)
        x = state + self.level_in[level] + last
        mask = encoded.mask_BT[:, None, None, :]
        grown = []
        for number, layer in enumerate(self._decoder_layers()):
            x, newest = layer.step(x, cache.past(number), memory[number], mask, encoded.prefix_mask_BY)
            grown.append(newest)
        return self.decoder_norm(x), CodeCache((*cache.levels, tuple(grown)), (*cache.rows, None))

    def _told(self, level: int, code: Tensor) -> Tensor:
        """(…, D) what the decoder is told of the codes (…) before the next one."""
        return cast(Tensor, (self.told_in or self.code_in)[level](code))

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [cast(DecoderLayer, layer) for layer in self.decoder]

    def code_logits(self, x: Tensor, level: int) -> Tensor:
        """Scaled-cosine logits (…, sizes[level]), in float32 whatever the weights are in."""
        weight = F.normalize(cast(nn.Embedding, self.code_out[level]).weight.float(), dim=-1)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).clamp(min=1e-12)
        return (x @ weight.to(x.dtype).T).float() * (self.temperature[level].exp() / length)

    def decode_targets(self, encoded: Encoded, target_BS: Tensor, place_S: Tensor | None = None) -> Tensor:
        """(B, S) log probability of each target item under the decoder alone, teacher-forced.

        Args:
            place_S: for a causal encoder, the place in ``memory_BTD`` that each target is told from: its state stands for
                the user's, and nothing behind it is seen. None: all from the user's own state.
        """
        B, S = target_BS.shape
        # Where no prefix branches any more, as often before the digit that resolves collisions, nothing is left to tell.
        L, D = self.trie.choices, self.config.width
        code = self.codes[target_BS]
        tokens = [self.begin.expand(B, S, D), *(self._told(level, code[..., level]) for level in range(L - 1))]
        x = torch.stack(tokens, dim=2) + self.level_in[:L]  # B S L D
        state, seen = encoded.state_BD[:, None, None, :], encoded.mask_BT[:, None, None, :]
        if place_S is not None:
            state = encoded.memory_BTD[:, place_S].unsqueeze(2)
            places = torch.arange(encoded.mask_BT.shape[1], device=x.device)
            seen = seen & (places <= place_S.repeat_interleave(L).unsqueeze(1))
        x = (x + state).view(B * S, L, D)
        causal = torch.ones(L, L, dtype=torch.bool, device=x.device).tril()
        if Y := encoded.prefix_mask_BY.shape[1]:
            before = encoded.prefix_mask_BY.repeat_interleave(S, dim=0)[:, None, None, :].expand(-1, -1, L, -1)
            causal = torch.cat([before, causal.expand(B * S, 1, L, L)], dim=-1)
        for layer, memory in zip(self._decoder_layers(), self.begin_decoding(encoded), strict=True):
            past = layer.attention.remember(layer.norm1(x))
            if Y:
                prefix = layer.attention.split_pairs(torch.cat(memory.prefix, dim=1))
                both = [(side.repeat_interleave(S, dim=0), mine) for side, mine in zip(prefix, past, strict=True)]
                past = torch.cat(both[0], dim=2), torch.cat(both[1], dim=2)
            x = layer(x, past, causal, memory.events, seen, S)
        x = self.decoder_norm(x).view(B, S, L, D)
        node = self.trie.node[target_BS]
        total = torch.zeros(B, S, device=x.device)
        for level in range(L):
            logits = self.code_logits(x[:, :, level], level)
            # Normalised over the codes that the trie allows: those of the real children of the target's prefix.
            _, sibling, there = self.trie.below(level, node[..., level])
            siblings = logits.gather(-1, sibling).masked_fill(~there, -torch.inf).logsumexp(dim=-1)
            total = total + logits.gather(-1, code[..., level : level + 1]).squeeze(-1) - siblings
        return total

    # -- outcome --------------------------------------------------------------------------------------------------

    def outcome(self, user_BU: Tensor, encoded: Encoded) -> Tensor:
        """(B, K) logits of a net order within the horizon, one for each head of the ensemble."""
        user = self.standard(user_BU)
        hidden = F.gelu(self.outcome_in(torch.cat([encoded.state_BD, user, 4 * encoded.recent_BE], dim=-1)))
        K = self.config.outcome_heads
        return torch.einsum("bkh,kh->bk", hidden.view(-1, K, 16), self.outcome_out) + self.outcome_bias


def part_log_probability(
    model: Backbone, batch: Batch, encoded: Encoded, log_pointer_2BP: Tensor, target_BS: Tensor
) -> Tensor:
    """(B, S, 4) log probability of each target under each part but the candidates; :data:`NOTHING` where it gives none."""
    nothing = torch.full(target_BS.shape, NOTHING, device=target_BS.device)
    decoder = model.decode_targets(encoded, target_BS) if model.config.use_decoder else nothing
    dense = model.log_dense(encoded.state_BD).gather(1, target_BS) if model.config.use_dense else nothing
    return torch.stack([decoder, dense, *pointed_at(log_pointer_2BP, batch.pool_BP, target_BS)], dim=-1)


def pointed_at(log_pointer_2BP: Tensor, pool_BP: Tensor, target_BS: Tensor) -> Tensor:
    """(2, B, S) log probability of each target under either pointer; :data:`NOTHING` outside of its group."""
    place = pool_BP[:, None, :] == target_BS[:, :, None]
    return log_pointer_2BP.clamp(min=NOTHING).unsqueeze(2).masked_fill(~place, NOTHING).amax(dim=-1)


def target_log_probability(model: Backbone, batch: Batch, encoded: Encoded, target_BS: Tensor) -> Tensor:
    """(B, S) log probability of each target under the whole mixture."""
    view = model.point(batch)
    log_pointer = view.log_probability()
    parts = part_log_probability(model, batch, encoded, log_pointer, target_BS)
    rest = (parts + model.log_gate(view, log_pointer)[:, None, :]).logsumexp(dim=-1)
    return with_candidates(
        model, rest, model.view_candidates(batch, view, log_pointer), candidate_hits(batch, target_BS)
    )


def candidate_hits(batch: Batch, target_BS: Tensor) -> Tensor:
    """(B, S, C) which candidate each target is."""
    candidate_item = batch.pool_BP.gather(1, batch.candidate_BC)
    return (candidate_item[:, None, :] == target_BS[:, :, None]) & batch.candidate_mask_BC[:, None, :]


def candidate_log_probability(model: Backbone, view: CandidateView, hit_BSC: Tensor) -> tuple[Tensor, Tensor]:
    """The candidates' share (B,), and the log probability (B, S) of each target among them; see :func:`candidate_hits`."""
    share, log_candidate = model.weigh_candidates(view)
    # An item that two specs were grounded to stands there twice.
    pointed = log_candidate.clamp(min=NOTHING)[:, None, :].masked_fill(~hit_BSC, NOTHING).logsumexp(dim=-1)
    return share, pointed


def with_candidates(model: Backbone, rest_BS: Tensor, view: CandidateView, hit_BSC: Tensor) -> Tensor:
    """(B, S) log probability under the whole mixture, given that of all other parts and which candidate each target is."""
    share, pointed = candidate_log_probability(model, view, hit_BSC)
    log_share = torch.log(share.clamp(min=1e-30)).unsqueeze(1)
    return torch.logaddexp(rest_BS + torch.log1p(-share).unsqueeze(1), pointed + log_share)


def _log_share(score: Tensor, group: Tensor) -> Tensor:
    """Log softmax over the last dimension among the members of ``group``; -inf elsewhere, and all over an empty group."""
    inside = score.masked_fill(~group, -torch.inf)
    total = inside.logsumexp(dim=-1, keepdim=True)
    return inside - torch.where(total == -torch.inf, 0.0, total)


def _initialise(module: nn.Module) -> None:
    """Small normal weights, zero biases: the usual of decoder-only transformers."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 / math.sqrt(module.in_features))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)
        if module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
