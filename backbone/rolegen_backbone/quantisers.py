"""Residual quantisers: an embedding as one code on each of a few levels, coarse to fine.

Each takes distinct rows and returns codes and the codebooks they point into. On every level the nearest centroid is
subtracted and the next level quantises what is left (residual quantisation; for semantic ids after TIGER, Rajput et al.
2023, arXiv 2305.05065).

- ``balanced`` – k-means whose codes all serve about equally many items, so that no code is wasted; on the last level
  items of one prefix get different codes while there are any left, so that ids hardly ever collide.
- ``plain`` – ordinary k-means, which leaves some codes with many items and some with one.
- ``rqvae`` – codebooks trained in the latent space of an autoencoder, with the extra ``rqvae``.

All fit on at most :data:`SAMPLE` rows and assign in chunks, so that a catalogue of a million items stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import nn
from torch.nn import functional as F

from rolegen_errors import InputError, MissingExtraError

from .events import Floats, Ints

SAMPLE: Final = 32_768
"""rows that centroids are fitted on"""
CHUNK: Final = 16_384
"""rows whose distances to a codebook are in memory at once"""
SLACK: Final = 1.1
"""a code of the balanced quantiser serves at most so many times, and at least one so-many-th of, its fair share"""
ROUNDS: Final = 8
"""rounds of balanced k-means: assignment, then means"""
TEMPERATURE: Final = 0.2
"""of the transport, in standard deviations of the distances; colder prices do not settle in so few rounds"""
STEPS: Final = 1_500
"""batches that the autoencoder is trained on"""
LATENT: Final = 32
"""width of the autoencoder's latent space, as in TIGER"""


@dataclass(frozen=True)
class Projection:
    """What happens to an embedding before it is quantised: a small feed-forward network, or nothing."""

    layers: tuple[tuple[Floats, Floats], ...] = ()
    """weight (out, in) and bias (out,) of each layer, rectified in between"""

    def __call__(self, embedding: Floats) -> Floats:
        """(I, E) to (I, D)."""
        x = embedding
        for number, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if number < len(self.layers) - 1:
                x = np.maximum(x, 0)
        return x


@dataclass(frozen=True)
class Quantised:
    """I rows on L levels."""

    codes: Ints
    """(I, L)"""
    centroids: tuple[Floats, ...]
    """L codebooks (codes, D)"""
    prices: tuple[Floats, ...]
    """(codes,) of each level, added to the squared distances when a row chooses its code; zero without balance"""
    projection: Projection = Projection()


Quantiser = Callable[[Floats, int, int, int], Quantised]
"""(I, E) distinct rows, levels, codes per level, seed"""


def quantiser(name: str) -> Quantiser:
    """The quantiser of that name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in QUANTISERS:
        raise InputError(f"there is no quantiser {name!r}", fix=f"choose one of {', '.join(QUANTISERS)}")
    return QUANTISERS[name]


def distances(rows: Floats, centroids: Floats) -> Floats:
    """(N, K) squared Euclidean distances, up to a constant of each row."""
    return (centroids * centroids).sum(axis=1) - 2 * rows @ centroids.T


def balanced(embedding: Floats, levels: int, codebook: int, seed: int) -> Quantised:
    """Residual k-means with prices on the codes: a popular code gets dearer until its load is its fair share."""
    return _residual(embedding, levels, codebook, seed, _balanced_level)


def plain(embedding: Floats, levels: int, codebook: int, seed: int) -> Quantised:
    """Ordinary residual k-means."""
    return _residual(embedding, levels, codebook, seed, _plain_level)


def rqvae(embedding: Floats, levels: int, codebook: int, seed: int) -> Quantised:
    """Residual-quantised autoencoder (Lee et al. 2022, arXiv 2203.01941), trained with ``vector-quantize-pytorch``.

    Raises:
        MissingExtraError: the extra ``rqvae`` is not installed.
    """
    if find_spec("vector_quantize_pytorch") is None:
        raise MissingExtraError("vector-quantize-pytorch", "rqvae")
    from vector_quantize_pytorch import ResidualVQ

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sample = torch.from_numpy(embedding[_sample(len(embedding), SAMPLE, seed)])
        scale = sample.std().clamp(min=1e-6)
        sizes = (embedding.shape[1], 128, LATENT)
        encoder = nn.Sequential(nn.Linear(sizes[0], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[2]))
        decoder = nn.Sequential(nn.Linear(sizes[2], sizes[1]), nn.ReLU(), nn.Linear(sizes[1], sizes[0]))
        size = min(codebook, len(sample))
        # Codes that nobody chose lately are put where a latent is: without it whole codebooks collapse onto a few.
        books = ResidualVQ(
            dim=LATENT, num_quantizers=levels, codebook_size=size, kmeans_init=True, threshold_ema_dead_code=2
        )
        optimiser = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
        batch = min(len(sample), 1024)
        for _ in range(STEPS):
            x = sample[torch.randint(len(sample), (batch,))] / scale
            latent, _, commitment = books(encoder(x))
            loss = F.mse_loss(decoder(latent), x) + commitment.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    layers = [layer for layer in encoder if isinstance(layer, nn.Linear)]
    weights = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers]
    weights[0] = (weights[0][0] / float(scale), weights[0][1])
    projection = Projection(tuple(weights))
    centroids = tuple(np.array(book, np.float32) for book in books.codebooks.detach().numpy())
    residual = np.concatenate([projection(embedding[rows]) for rows in _chunks(len(embedding))])
    codes = np.empty((len(residual), levels), np.int64)
    for level, book in enumerate(centroids):
        codes[:, level] = _nearest(residual, book)
        residual -= book[codes[:, level]]
    return Quantised(codes, centroids, tuple(np.zeros(len(book), np.float32) for book in centroids), projection)


QUANTISERS: Final[dict[str, Quantiser]] = {"balanced": balanced, "plain": plain, "rqvae": rqvae}


_Level = Callable[[Floats, int, int, Ints | None], tuple[Floats, Floats, Ints]]
"""Residual rows, codes, seed, and on the last level the number of each row's prefix; to codebook, prices and codes."""


def _residual(embedding: Floats, levels: int, codebook: int, seed: int, fit: _Level) -> Quantised:
    residual = np.array(embedding, np.float32)
    codes, centroids, prices = np.empty((len(residual), levels), np.int64), [], []
    group = np.zeros(len(residual), np.int64)
    for level in range(levels):
        last = level == levels - 1
        size = min(codebook, _distinct(residual, codebook))
        book, price, codes[:, level] = fit(residual, size, seed + level, group if last else None)
        group = np.unique(group * size + codes[:, level], return_inverse=True)[1].ravel()
        centroids.append(book)
        prices.append(price)
        for rows in _chunks(len(residual)):
            residual[rows] -= book[codes[rows, level]]
    return Quantised(codes, tuple(centroids), tuple(prices))


def _plain_level(rows: Floats, size: int, seed: int, _group: Ints | None) -> tuple[Floats, Floats, Ints]:
    book = _kmeans(rows[_sample(len(rows), SAMPLE, seed)], size, seed)
    return book, np.zeros(size, np.float32), _nearest(rows, book)


def _kmeans(rows: Floats, size: int, seed: int) -> Floats:
    """(size, D) centroids; in mini-batches where there are many rows."""
    few = len(rows) <= CHUNK
    model = KMeans(size, n_init=1, random_state=seed) if few else MiniBatchKMeans(size, n_init=1, random_state=seed)
    return model.fit(rows).cluster_centers_.astype(np.float32)


def _balanced_level(rows: Floats, size: int, seed: int, group: Ints | None) -> tuple[Floats, Floats, Ints]:
    """K-means as optimal transport: rows go to the code of least distance plus price, prices even out the load.

    The prices are the dual variables of entropic transport (Cuturi 2013, arXiv 1306.0895) to equal loads, improved by
    Sinkhorn steps between two updates of the means.

    Args:
        group: (N,) rows of equal number share all earlier codes; on the last level they must differ in this one.
    """
    sample = rows[_sample(len(rows), SAMPLE, seed)]
    book, price = _kmeans(sample, size, seed), np.zeros(size, np.float32)
    for temperature, steps in ((TEMPERATURE, 4),) * ROUNDS + ((TEMPERATURE, 20), (TEMPERATURE / 2, 20)):
        cost = distances(sample, book)
        price = _sinkhorn(cost, price, temperature * float(cost.std() + 1e-12), steps)
        if steps > 4:
            continue  # the means are settled, only the prices are made precise
        code = (cost + price).argmin(axis=1)
        load = np.bincount(code, minlength=size)
        total = np.zeros((size, rows.shape[1]), np.float32)
        np.add.at(total, code, sample)
        book = np.where(load[:, None] > 0, total / np.maximum(load, 1)[:, None], book).astype(np.float32)
    code = np.concatenate([_cost(rows[c], book, price).argmin(axis=1) for c in _chunks(len(rows))])
    taken: set[int] = set()
    if group is not None:
        _set_apart(rows, book, price, code, group)
        taken.update((group * size + code).tolist())
    _level_out(rows, book, price, code, group, taken)
    return book, price, code


def _sinkhorn(cost: Floats, price: Floats, temperature: float, steps: int) -> Floats:
    """Prices (K,) under which the soft loads of ``cost`` (N, K) come closer to equal."""
    size = len(price)
    for _ in range(steps):
        load = np.zeros(size)
        for rows in _chunks(len(cost)):
            logit = (cost[rows] + price) / -temperature
            logit -= logit.max(axis=1, keepdims=True)
            np.exp(logit, out=logit)
            logit /= logit.sum(axis=1, keepdims=True)
            load += logit.sum(axis=0)
        price = price + temperature * np.log(np.maximum(load * size / len(cost), 1e-6)).astype(np.float32)
    return price - price.mean()


def _set_apart(rows: Floats, book: Floats, price: Floats, code: Ints, group: Ints) -> None:
    """Give the rows of each group different codes at the least total cost, in place."""
    order = np.argsort(group, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(np.unique(code[members])) == len(members):
            continue
        for begin in range(0, len(members), len(book)):  # a group of more rows than codes must repeat some
            part = members[begin : begin + len(book)]
            code[part] = linear_sum_assignment(_cost(rows[part], book, price))[1]


def _level_out(rows: Floats, book: Floats, price: Floats, code: Ints, group: Ints | None, taken: set[int]) -> None:
    """Move the rows that lose least, in place, until every code has its fair share within :data:`SLACK`.

    Args:
        taken: ``group * size + code`` that a row may not move to.
    """
    size = len(book)
    share = len(rows) / size
    most, least = int(np.ceil(share * SLACK)), int(np.floor(share / SLACK))
    load = np.bincount(code, minlength=size)

    def move(row: int, target: int) -> None:
        load[code[row]] -= 1
        load[target] += 1
        code[row] = target
        if group is not None:
            taken.add(int(group[row]) * size + target)

    def may(row: int, target: int) -> bool:
        return group is None or int(group[row]) * size + target not in taken

    for full in np.flatnonzero(load > most):
        members = np.flatnonzero(code == full)
        cost = np.concatenate([_cost(rows[members[c]], book, price) for c in _chunks(len(members))])
        loss = np.where(load < most, cost, np.inf).min(axis=1) - cost[:, full]
        for place in np.argsort(loss, kind="stable"):
            if load[full] <= most:
                break
            row = int(members[place])
            for target in np.argsort(cost[place], kind="stable"):
                if load[target] < most and may(row, int(target)):
                    move(row, int(target))
                    break
    for poor in np.flatnonzero(load < least):
        loss = np.empty(len(rows), np.float32)
        for c in _chunks(len(rows)):
            loss[c] = distances(rows[c], book[poor : poor + 1])[:, 0] - _own_distance(rows[c], book[code[c]])
        for place in np.argsort(loss, kind="stable"):
            if load[poor] >= least:
                break
            row = int(place)
            if load[code[row]] > least and code[row] != poor and may(row, int(poor)):
                move(row, int(poor))


def _cost(rows: Floats, book: Floats, price: Floats) -> Floats:
    return distances(rows, book) + price


def _own_distance(rows: Floats, centroid: Floats) -> Floats:
    return (centroid * centroid).sum(axis=1) - 2 * (rows * centroid).sum(axis=1)


def _nearest(rows: Floats, book: Floats) -> Ints:
    return np.concatenate([distances(rows[c], book).argmin(axis=1) for c in _chunks(len(rows))])


def _distinct(rows: Floats, enough: int) -> int:
    """How many rows differ, counted up to ``enough``; sets of more rows than ten times that are looked at in part."""
    for part in (rows[: 10 * enough], rows):
        count = len(np.unique(part.round(6), axis=0))
        if count >= enough:
            break
    return min(count, enough)


def _sample(count: int, size: int, seed: int) -> Ints:
    if count <= size:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, size, replace=False))


def _chunks(count: int) -> Iterator[slice]:
    return (slice(begin, begin + CHUNK) for begin in range(0, count, CHUNK))
