"""The Generative Behavioral Backbone: one model, one file.

What it is:
 - an event encoder: a small pre-norm transformer over the user's last events (item content and codes, behaviour, time
   gap, quantity, price) with one token that carries what can be counted about the user;
 - a decoder over semantic ids: causal transformer with cross-attention into the encoded events, scaled-cosine logits
   (against popularity hubs), normalised over the codes that the trie allows, so that it is a distribution over items;
 - a pointer over the *pool* of the decision: the user's own items (repeat mechanism, after the pointer-generator of
   See et al. 2017, arXiv 1704.04368), what sells now and what sold in these weeks last year, scored from features as
   of the decision time;
 - a second pointer over the reasoned candidates with their roles, behind a learned gate that can never exceed
   ``candidate_cap``: useless or hostile candidates move at most that much probability;
 - an outcome head: an ensemble on the encoded user for the probability of a net order within the horizon.

The next item's distribution is the mixture ``g_decoder p_decoder + g_pool p_pool + g_cand p_cand``. A mixture over
items is also a mixture over trie prefixes, which is why one beam search over the trie finds the best items of all three.

Shapes: B decisions, T events, P pool items, C candidates, S target items, L code levels, D width.
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

EVENT_FEATURES = 4
"""log days before the decision, its square-root scale, log quantity, log price"""
CANDIDATE_FEATURES = 2
"""retrieval score, share of the decision's candidates with the same item"""
UNKNOWN_ITEM = 0
"""content row 0 stands for "some item" and holds the mean content; item i is row i + 1"""
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
    outcome_heads: int = 8
    use_decoder: bool = True
    use_pool: bool = True

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
        key, value = self.key_value(memory_BSD).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def forward(self, x_BTD: Tensor, cache: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        key, value = cache
        # No dropout on the attention weights: drawing B x heads x T x T random numbers cost a fifth of a training step.
        mixed = F.scaled_dot_product_attention(self._split(self.query(x_BTD)), key, value, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x_BTD: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        return x_BTD.view(B, T, self.heads, D // self.heads).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Position-wise network with GELU."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout))


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.feed = FeedForward(config.width, config.dropout)
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm1(x)
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


@dataclass(frozen=True)
class Batch:
    """Padded inputs of B decisions; masks are True at real entries."""

    item_BT: Tensor
    """content rows, :data:`UNKNOWN_ITEM` for padding"""
    behaviour_BT: Tensor
    event_BTX: Tensor
    event_mask_BT: Tensor
    user_BU: Tensor
    pool_BP: Tensor
    """item indices"""
    pool_BPF: Tensor
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


@dataclass(frozen=True)
class CandidateView:
    """What the candidate part sees of B decisions with C candidates."""

    user_BU: Tensor
    """standardised facts"""
    base_BC: Tensor
    """log probability that the pool gives, or would give, the candidate"""
    entropy_B1: Tensor
    """of the pool, nats"""
    role_BC: Tensor
    feature_BCX: Tensor
    mask_BC: Tensor


@dataclass(frozen=True)
class Mixture:
    """The three parts of the next item's distribution: log weights, and the two pointers' log probabilities."""

    log_gate_B3: Tensor
    """decoder, pool, candidates"""
    log_pool_BP: Tensor
    log_candidate_BC: Tensor


class Backbone(nn.Module):
    """See the module's docstring. ``content`` is the fixed (I, E) item embedding, ``trie`` the prefixes of all items."""

    content: Tensor
    codes: Tensor
    user_mean: Tensor
    user_scale: Tensor
    pool_mean: Tensor
    pool_scale: Tensor

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

        self.content_in = nn.Linear(config.content, D)
        self.code_in = nn.ModuleList(nn.Embedding(size, D) for size in config.sizes)
        self.unknown = nn.Parameter(torch.zeros(D))
        self.behaviour_in = nn.Embedding(config.behaviours, D)
        self.event_in = nn.Linear(EVENT_FEATURES, D)
        self.user_in = nn.Sequential(nn.Linear(len(USER_FEATURES), D), nn.GELU(), nn.Linear(D, D))
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)

        self.begin = nn.Parameter(torch.zeros(D))
        self.level_in = nn.Parameter(torch.zeros(len(config.sizes), D))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.decoder_norm = nn.LayerNorm(D)
        self.code_out = nn.ModuleList(nn.Embedding(size, D) for size in config.sizes)
        self.temperature = nn.Parameter(torch.full((len(config.sizes),), math.log(8.0)))

        H = 64
        self.pool_score = nn.Sequential(
            nn.Linear(len(POOL_FEATURES) + len(USER_FEATURES) + 1, H),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(H, H),
            nn.GELU(),
            nn.Linear(H, 1),
        )
        self.pool_linear = nn.Linear(len(POOL_FEATURES), 1)
        self.match_user, self.match_item = nn.Linear(D, D), nn.Linear(D, D)
        self.gate = nn.Linear(D + len(USER_FEATURES), 2)

        self.role_in = nn.Embedding(config.roles, 16)
        self.candidate_score = nn.Sequential(nn.Linear(16 + CANDIDATE_FEATURES + 1, 32), nn.GELU(), nn.Linear(32, 1))
        self.candidate_gate = nn.Sequential(nn.Linear(len(USER_FEATURES) + 4, 16), nn.GELU(), nn.Linear(16, 1))

        K = config.outcome_heads
        self.outcome_in = nn.Linear(D + len(USER_FEATURES) + config.content, K * 16)
        self.outcome_out = nn.Parameter(torch.randn(K, 16) * 0.1)
        self.outcome_bias = nn.Parameter(torch.zeros(K))
        self.apply(_initialise)

    # -- encoding -------------------------------------------------------------------------------------------------

    def item_vector(self, row: Tensor) -> Tensor:
        """(…, D) for content rows (…); row 0 is the unknown item.

        A batch names the same popular items over and over, so each distinct row is projected once.
        """
        distinct, place = row.unique(return_inverse=True)
        vector = self.content_in(self.content[distinct])
        code = self.codes[(distinct - 1).clamp(min=0)]
        for level, table in enumerate(self.code_in):
            vector = vector + table(code[:, level])
        vector = torch.where((distinct > 0).unsqueeze(-1), vector, self.unknown)
        return F.embedding(place, vector)

    def encode(self, batch: Batch) -> Encoded:
        """Encode events behind one token that carries the counted facts of the user."""
        user = (batch.user_BU - self.user_mean) / self.user_scale
        x = self.item_vector(batch.item_BT) + self.behaviour_in(batch.behaviour_BT) + self.event_in(batch.event_BTX)
        x = torch.cat([self.user_in(user).unsqueeze(1), x], dim=1)
        mask_BT = F.pad(batch.event_mask_BT, (1, 0), value=True)
        mask = mask_BT[:, None, None, :]
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        after = batch.event_mask_BT.flip(1).cumsum(1).flip(1) - 1
        weight = RECENCY ** after.clamp(min=0) * batch.event_mask_BT
        weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-6)
        recent = torch.einsum("bt,bte->be", weight, self.content[batch.item_BT])
        return Encoded(state_BD=x[:, 0], memory_BTD=x, mask_BT=mask_BT, recent_BE=recent)

    # -- pointers and gates ---------------------------------------------------------------------------------------

    def point(self, batch: Batch, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Log probabilities (B, P) of the pool's own items, and scores (B, P) relative to them for all of it."""
        user = (batch.user_BU - self.user_mean) / self.user_scale
        feature = (batch.pool_BPF - self.pool_mean) / self.pool_scale
        B, P, _ = feature.shape
        distinct, place = batch.pool_BP.unique(return_inverse=True)
        item = F.normalize(self.match_item(self.item_vector(distinct + 1)), dim=-1)
        wish = F.normalize(self.match_user(encoded.state_BD), dim=-1)
        match = (wish @ item.T).gather(1, place)
        wide = torch.cat([feature, user.unsqueeze(1).expand(B, P, -1), match.unsqueeze(-1)], dim=-1)
        score = (self.pool_score(wide) + self.pool_linear(feature)).squeeze(-1) + 4 * match
        # Items that only reasoning brought in take no part in the pool's own softmax: otherwise many hostile candidates
        # would move mass through the pool, past the gate that bounds them.
        relative = score - score.masked_fill(~batch.pool_mask_BP, -torch.inf).logsumexp(dim=-1, keepdim=True)
        return relative.masked_fill(~batch.pool_mask_BP, -torch.inf), relative

    def view_candidates(self, batch: Batch, log_pool: Tensor, relative: Tensor) -> CandidateView:
        """All that the candidate part looks at; it does not depend on that part's own weights."""
        # A candidate in the pool keeps its log probability there, another gets the one it would have if it joined alone.
        base = torch.where(batch.pool_mask_BP, relative, F.logsigmoid(relative)).gather(1, batch.candidate_BC)
        return CandidateView(
            user_BU=(batch.user_BU - self.user_mean) / self.user_scale,
            base_BC=base,
            entropy_B1=-(log_pool.exp() * log_pool.clamp(min=-30)).sum(dim=-1, keepdim=True),
            role_BC=batch.role_BC,
            feature_BCX=batch.candidate_BCX,
            mask_BC=batch.candidate_mask_BC,
        )

    def weigh_candidates(self, view: CandidateView) -> tuple[Tensor, Tensor]:
        """The candidates' share (B,) of the mixture, at most ``candidate_cap``, and their log probabilities (B, C)."""
        base, mask = view.base_BC, view.mask_BC
        wide = torch.cat([self.role_in(view.role_BC), view.feature_BCX, (base / 5).unsqueeze(-1)], dim=-1)
        logit = (self.candidate_score(wide).squeeze(-1) + base).masked_fill(~mask, -torch.inf)
        some = mask.any(dim=-1)
        # A row without candidates would be all -inf and its softmax undefined; its gate is closed instead.
        log_candidate = logit.masked_fill(~some[:, None], 0.0).log_softmax(dim=-1)
        count = mask.sum(dim=-1, keepdim=True).float()
        mass = (base.exp() * mask).sum(dim=-1, keepdim=True)
        best = base.masked_fill(~mask, -12.0).amax(dim=-1, keepdim=True)
        facts = torch.cat([view.user_BU, count / 10, mass, best / 10, view.entropy_B1 / 5], dim=-1)
        share = self.config.candidate_cap * torch.sigmoid(self.candidate_gate(facts).squeeze(-1))
        return torch.where(some, share, torch.zeros_like(share)), log_candidate

    def mix(self, batch: Batch, encoded: Encoded) -> Mixture:
        """Gates and the two pointer distributions."""
        log_pool, relative = self.point(batch, encoded)
        share, log_candidate = self.weigh_candidates(self.view_candidates(batch, log_pool, relative))
        log_gate = torch.cat(
            [
                self.log_gate(batch, encoded) + torch.log1p(-share).unsqueeze(-1),
                torch.log(share.clamp(min=1e-30)).unsqueeze(-1),
            ],
            dim=-1,
        )
        return Mixture(log_gate_B3=log_gate, log_pool_BP=log_pool, log_candidate_BC=log_candidate)

    def log_gate(self, batch: Batch, encoded: Encoded) -> Tensor:
        """(B, 2) log shares of decoder and pool before candidates take theirs."""
        user = (batch.user_BU - self.user_mean) / self.user_scale
        logit = self.gate(torch.cat([encoded.state_BD, user], dim=-1))
        if not self.config.use_decoder:
            logit = logit - torch.tensor([60.0, 0.0])
        if not self.config.use_pool:
            logit = logit - torch.tensor([0.0, 60.0])
        return logit.log_softmax(dim=-1)

    # -- decoding -------------------------------------------------------------------------------------------------

    def begin_decoding(self, encoded: Encoded) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the events for each decoder layer: shared by all beams, never copied."""
        return [layer.cross.remember(encoded.memory_BTD) for layer in self._decoder_layers()]

    def step(
        self,
        encoded: Encoded,
        events: list[tuple[Tensor, Tensor]],
        code_BK: Tensor | None,
        level: int,
        cache: list[tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits (B, K, sizes[level]) of the next code for K beams, and the cache grown by one token.

        Args:
            events: what :meth:`begin_decoding` returned.
            code_BK: the beams' last code; None on level 0, where there is one beam.
            cache: keys and values (B * K, heads, level, D / heads) of each decoder layer; empty on level 0.
        """
        B, D = encoded.state_BD.shape
        last = self.begin.expand(B, 1, D) if code_BK is None else self.code_in[level - 1](code_BK)
        K = last.shape[1]
        x = (last + self.level_in[level] + encoded.state_BD.unsqueeze(1)).reshape(B * K, 1, D)
        grown = []
        for number, layer in enumerate(self._decoder_layers()):
            key, value = layer.attention.remember(layer.norm1(x))
            if cache:
                key, value = torch.cat([cache[number][0], key], dim=2), torch.cat([cache[number][1], value], dim=2)
            grown.append((key, value))
            x = layer(x, (key, value), None, events[number], encoded.mask_BT[:, None, None, :], K)
        return self.code_logits(self.decoder_norm(x).view(B, K, D), level), grown

    def _decoder_layers(self) -> list[DecoderLayer]:
        return [cast(DecoderLayer, layer) for layer in self.decoder]

    def code_logits(self, x: Tensor, level: int) -> Tensor:
        """Scaled-cosine logits (…, sizes[level])."""
        weight = F.normalize(cast(nn.Embedding, self.code_out[level]).weight, dim=-1)
        return F.normalize(x, dim=-1) @ weight.T * self.temperature[level].exp()

    def decode_targets(self, encoded: Encoded, target_BS: Tensor) -> Tensor:
        """(B, S) log probability of each target item under the decoder alone, teacher-forced."""
        B, S = target_BS.shape
        code = self.codes[target_BS]
        L, D = code.shape[-1], self.config.width
        tokens = [self.begin.expand(B, S, D), *(self.code_in[level](code[..., level]) for level in range(L - 1))]
        x = torch.stack(tokens, dim=2) + self.level_in  # B S L D
        state = encoded.state_BD[:, None, None, :]
        x = (x + state).view(B * S, L, D)
        causal = torch.ones(L, L, dtype=torch.bool, device=x.device).tril()
        for layer, (key, value) in zip(self._decoder_layers(), self.begin_decoding(encoded), strict=True):
            past = layer.attention.remember(layer.norm1(x))
            x = layer(x, past, causal, (key, value), encoded.mask_BT[:, None, None, :], S)
        x = self.decoder_norm(x).view(B, S, L, D)
        total = torch.zeros(B, S, device=x.device)
        for level in range(L):
            node = self.trie.node[:, level].to(target_BS.device)[target_BS]
            allowed = self.trie.child[level].to(target_BS.device)[node] >= 0
            logits = self.code_logits(x[:, :, level], level).masked_fill(~allowed, -torch.inf)
            total = total + logits.log_softmax(dim=-1).gather(-1, code[..., level : level + 1]).squeeze(-1)
        return total

    # -- outcome --------------------------------------------------------------------------------------------------

    def outcome(self, user_BU: Tensor, encoded: Encoded) -> Tensor:
        """(B, K) logits of a net order within the horizon, one for each head of the ensemble."""
        user = (user_BU - self.user_mean) / self.user_scale
        hidden = F.gelu(self.outcome_in(torch.cat([encoded.state_BD, user, 4 * encoded.recent_BE], dim=-1)))
        K = self.config.outcome_heads
        return torch.einsum("bkh,kh->bk", hidden.view(-1, K, 16), self.outcome_out) + self.outcome_bias


def item_log_probability(
    model: Backbone, batch: Batch, encoded: Encoded, log_pool: Tensor, target_BS: Tensor
) -> Tensor:
    """(B, S) log probability of each target under decoder and pool, before candidates take their share."""
    log_gate = model.log_gate(batch, encoded)
    hit = (batch.pool_BP[:, None, :] == target_BS[:, :, None]) & batch.pool_mask_BP[:, None, :]
    pool = torch.logsumexp(log_pool[:, None, :].masked_fill(~hit, -1e4), dim=-1) + log_gate[:, 1:]
    if not model.config.use_decoder:
        return pool
    return torch.logaddexp(pool, model.decode_targets(encoded, target_BS) + log_gate[:, :1])


def target_log_probability(model: Backbone, batch: Batch, encoded: Encoded, target_BS: Tensor) -> Tensor:
    """(B, S) log probability of each target under the whole mixture."""
    log_pool, relative = model.point(batch, encoded)
    rest = item_log_probability(model, batch, encoded, log_pool, target_BS)
    if not batch.candidate_mask_BC.any():
        return rest
    share, log_candidate = model.weigh_candidates(model.view_candidates(batch, log_pool, relative))
    candidate_item = batch.pool_BP.gather(1, batch.candidate_BC)
    hit = (candidate_item[:, None, :] == target_BS[:, :, None]) & batch.candidate_mask_BC[:, None, :]
    pointed = torch.logsumexp(log_candidate[:, None, :].masked_fill(~hit, -1e4), dim=-1)
    log_share = torch.log(share.clamp(min=1e-30)).unsqueeze(1)
    return torch.logaddexp(rest + torch.log1p(-share).unsqueeze(1), pointed + log_share)


def _initialise(module: nn.Module) -> None:
    """Small normal weights, zero biases: the usual of decoder-only transformers."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.5 / math.sqrt(module.in_features))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.05)
