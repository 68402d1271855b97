"""Our hybrid: one beam search over the mixture of decoder, dense part and item-kNN, with a gate fitted on validation.

The gate is fitted on the validation targets, which neither the network nor the neighbours have seen, and so is the one
temperature that softens decoder and dense part, both too sure of themselves after training. When validation itself is
judged, one half of its users is judged by what was fitted on the other.

Shapes: U users, I items, X pointed items, P parts (decoder, dense, neighbours), F facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from sklearn.preprocessing import normalize
from torch import Tensor, nn

from rolegen_backbone.decoding import beam_search, decoder_alone
from rolegen_backbone.model import Backbone, Encoded, Mixture, Pointer
from rolegen_backbone.next_item_training import encode_histories

from .neighbours import Neighbours, incidence, similarity
from .networks import Fitted, Progress
from .protocol import SIZE, Beauty, Ints, Split

BEAM = 50
BATCH = 128
"""users searched at once"""
POINTED = 200
"""items that the neighbours' pointer names at most"""
POWER = 1.25
"""sharpens the neighbours' scores before they are shared out"""
TEMPERATURES = (1.0, 1.2, 1.4, 1.7)
NEAR = Neighbours(text=0.03)
NOTHING = 1e-9
"""probability of what a part does not name, so that its logarithm stays a number"""


class NeighbourPointer:
    """Item-kNN as a distribution over neighbours of what a user has, known items left out; fitted on the training part."""

    def __init__(self, data: Beauty, fitted: Fitted, how: Neighbours = NEAR) -> None:
        self.items, self.how = data.items, how
        self.near = similarity(data.train, data.items, how, fitted.text_IE)

    def __call__(self, known: Sequence[Ints]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Scores and probabilities (U, I), at most :data:`POINTED` items each."""
        score = (incidence(known, self.items, self.how.decay) @ self.near).tocsr()
        score = (score - score.multiply(incidence(known, self.items) > 0)).tocsr()
        score.eliminate_zeros()
        for row in range(len(known)):  # what lies far behind costs time and weighs nothing
            part = slice(score.indptr[row], score.indptr[row + 1])
            value = score.data[part]
            if len(value) > POINTED:
                value[value < np.partition(value, -POINTED)[-POINTED]] = 0
        score.eliminate_zeros()
        sharp = score.copy()
        sharp.data = sharp.data**POWER
        return score, normalize(sharp, "l1")


@dataclass(frozen=True)
class Evidence:
    """What the gate looks at, of each user."""

    fact_UF: Tensor
    log_part_UP: Tensor
    """log probability of the user's target under each part"""


@dataclass(frozen=True)
class Gate:
    """``softmax`` of a linear map of standardised facts."""

    mean_F: Tensor
    scale_F: Tensor
    linear: nn.Linear

    @classmethod
    @torch.enable_grad()
    def fit(cls, evidence: Evidence, *, decay: float = 1e-2) -> tuple[Gate, float]:
        """The gate under which the targets are likeliest, and the mean loss in nats."""
        fact = evidence.fact_UF
        gate = cls(fact.mean(dim=0), fact.std(dim=0) + 1e-6, nn.Linear(fact.shape[1], evidence.log_part_UP.shape[1]))
        for weight in gate.linear.parameters():
            nn.init.zeros_(weight)
        optimiser = torch.optim.LBFGS(gate.linear.parameters(), max_iter=100)

        def closure() -> Tensor:
            optimiser.zero_grad()
            loss = -(gate(fact) + evidence.log_part_UP).logsumexp(dim=1).mean()
            loss = loss + decay * gate.linear.weight.square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        return gate, float(closure().detach())

    def __call__(self, fact_UF: Tensor) -> Tensor:
        """(U, P) log shares."""
        shares: Tensor = self.linear((fact_UF - self.mean_F) / self.scale_F).log_softmax(dim=-1)
        return shares


@torch.no_grad()
def log_dense_new(model: Backbone, encoded: Encoded, known: Sequence[Ints]) -> Tensor:
    """(B, I) log probability of each item under the dense part, of those that the user does not know."""
    score = model.log_dense(encoded.state_BD)
    row = np.repeat(np.arange(len(known)), [len(own) for own in known])
    score[torch.from_numpy(row), torch.from_numpy(np.concatenate(known))] = -torch.inf
    return score.log_softmax(dim=-1)


@torch.no_grad()
def gather_evidence(
    model: Backbone, pointer: NeighbourPointer, known: Sequence[Ints], target: Ints | None = None
) -> Evidence:
    """Facts of each user and, with ``target``, what each part gives it."""
    score, near = pointer(known)
    confidence = torch.empty(len(known))
    part = torch.full((len(known), 3), np.log(NOTHING))
    for rows, encoded in encode_histories(model, known):
        at = torch.from_numpy(rows)
        dense = log_dense_new(model, encoded, [known[row] for row in rows])
        confidence[at] = dense.amax(dim=1)
        if target is not None:
            wanted = torch.from_numpy(target[rows]).unsqueeze(1)
            part[at, 0] = model.decode_targets(encoded, wanted).squeeze(1)
            part[at, 1] = dense.gather(1, wanted).squeeze(1)
    if target is not None:
        found = np.asarray(near[np.arange(len(known)), target]).ravel()
        part[:, 2] = torch.from_numpy(np.log(np.maximum(found, NOTHING))).float()
    facts = [
        np.log([len(own) for own in known]),
        near.max(axis=1).toarray().ravel(),
        np.log(np.asarray(score.sum(axis=1)).ravel() + 1e-3),
        np.log1p(near.getnnz(axis=1)),
    ]
    columns = [confidence, *(torch.from_numpy(np.asarray(fact, np.float32)) for fact in facts)]
    return Evidence(torch.stack(columns, dim=1), part)


def softened(model: Backbone, temperature: float) -> None:
    """Divide the logits of decoder and dense part by ``temperature``, for good."""
    with torch.no_grad():
        model.dense_temperature.sub_(float(np.log(temperature)))
        if model.item_bias is not None:
            model.item_bias.div_(temperature)
        model.temperature.sub_(float(np.log(temperature)))


def calibrate(model: Backbone, pointer: NeighbourPointer, data: Beauty) -> tuple[float, Evidence]:
    """Soften ``model`` by the one of :data:`TEMPERATURES` that suits the mixture best; and validation's evidence then."""
    known, target = data.known("validation"), data.target("validation")
    tried = []
    for temperature in TEMPERATURES:
        softened(model, temperature)
        evidence = gather_evidence(model, pointer, known, target)
        tried.append((Gate.fit(evidence)[1], temperature, evidence))
        softened(model, 1 / temperature)
    _, temperature, evidence = min(tried, key=lambda one: one[0])
    softened(model, temperature)
    return temperature, evidence


def gate_shares(
    model: Backbone, pointer: NeighbourPointer, evidence: Evidence, known: Sequence[Ints], split: Split
) -> Tensor:
    """(U, P) log shares of the parts; ``evidence`` is validation's."""
    if split == "test":
        return Gate.fit(evidence)[0](gather_evidence(model, pointer, known).fact_UF).detach()
    shares = torch.empty_like(evidence.log_part_UP)
    half = torch.arange(len(shares)) % 2 == 0
    for learnt in (half, ~half):
        gate, _ = Gate.fit(Evidence(evidence.fact_UF[learnt], evidence.log_part_UP[learnt]))
        shares[~learnt] = gate(evidence.fact_UF[~learnt]).detach()
    return shares


def semantic_slates(model: Backbone, known: Sequence[Ints], progress: Progress) -> Ints:
    """Slates (U, SIZE) of the decoder over semantic ids and nothing else."""
    slates = np.empty((len(known), SIZE), np.int64)
    for done, (rows, encoded) in enumerate(encode_histories(model, known, batch=BATCH)):
        own = [known[row] for row in rows]
        slates[rows] = _search(model, encoded, decoder_alone(encoded), own)
        progress("semantic ids", done + 1, -(-len(known) // BATCH))
    return slates


@torch.no_grad()
def mixture_slates(
    model: Backbone, pointer: NeighbourPointer, log_share_UP: Tensor, known: Sequence[Ints], progress: Progress
) -> Ints:
    """Slates (U, SIZE) of the whole mixture."""
    _, near = pointer(known)
    slates = np.empty((len(known), SIZE), np.int64)
    for done, (rows, encoded) in enumerate(encode_histories(model, known, batch=BATCH)):
        own = [known[row] for row in rows]
        log_dense, item = log_dense_new(model, encoded, own).topk(min(model.config.dense_top, model.config.items))
        mixture = Mixture(log_share_UP[torch.from_numpy(rows)], (Pointer(item, log_dense), _as_pointer(near[rows])))
        slates[rows] = _search(model, encoded, mixture, own)
        progress("mixture", done + 1, -(-len(known) // BATCH))
    return slates


def _as_pointer(near_BI: sparse.csr_matrix) -> Pointer:
    count = np.diff(near_BI.indptr)
    item = np.zeros((len(count), max(1, count.max())), np.int64)
    mass = np.zeros(item.shape, np.float32)
    there = np.arange(item.shape[1]) < count[:, None]
    item[there], mass[there] = near_BI.indices, near_BI.data
    return Pointer(torch.from_numpy(item), torch.from_numpy(mass).log())


def _search(model: Backbone, encoded: Encoded, mixture: Mixture, known: Sequence[Ints]) -> Ints:
    """Slates (B, SIZE) without what the users know: the decoder still names it, so more is asked for and it is dropped."""
    items = np.ones(model.config.items, bool)
    size = min(SIZE + max(len(own) for own in known), model.config.items)
    found = beam_search(
        model,
        encoded,
        mixture,
        alive=model.trie.alive(items),
        available=torch.from_numpy(items),
        size=size,
        beam=max(BEAM, size),
    ).item_BN.numpy()
    slates = np.full((len(known), SIZE), -1, np.int64)
    for slate, named, own in zip(slates, found, known, strict=True):
        new = named[(named >= 0) & ~np.isin(named, own)][:SIZE]
        slate[: len(new)] = new
    return slates
