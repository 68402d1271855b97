"""Co-purchase: what is bought in addition, in the same basket or soon after.

Across categories that is a complement; within one category it is a sibling (another colour, another size), which is no
role but tells what else of its kind a buyer takes.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from .log import Scope
from .options import EvidenceOptions
from .shrink import Z, gamma_strength, shrunk_lift

Ints = npt.NDArray[np.int64]
_ROWS = 2048
"""items counted at once: bounds the memory of the pair counts on large catalogues"""


def copurchase(orders: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Directed co-purchase lift of item pairs: complements across categories, siblings within one.

    ``orders`` has one row for each (user, day, item) that was bought.

    lift(i→j) = P(j in the basket of i or within ``complement_days`` after | i) / P(j in a random basket's window),
    gamma-shrunk towards 1. The later purchases give it a direction.

    Returns:
        Two tables (complements, siblings) with the columns item, other, value, low, high, support, neutral, sorted by
        item and falling ``low``; at most ``pairs_per_item`` rows for each item. And the number of baskets left out as
        too large.
    """
    lines = (
        orders.select("user", "day", "item")
        .sort("user", "day", "item")
        .with_columns(basket=pl.struct("user", "day").rle_id())
    )
    sizes = lines.group_by("basket").agg(size=pl.len())
    large = sizes.filter(pl.col("size") > options.max_basket)["basket"]
    lines = lines.filter(~pl.col("basket").is_in(large.implode()))
    if lines.is_empty():
        return _empty(), _empty(), large.len()
    shape = (int(lines["basket"].max()) + 1, scope.items.height)  # type: ignore[arg-type]
    first = _matrix(lines["basket"].to_numpy(), lines["item"].to_numpy(), shape)
    window = _matrix(*_within_window(lines, options.complement_days), shape)
    total = float(lines["basket"].n_unique())
    n_first, n_window = _sums(first), _sums(window)

    squared = cross = 0.0
    found: list[tuple[Ints, Ints, Ints, npt.NDArray[np.float64]]] = []
    category = scope.item_category
    for start in range(0, shape[1], _ROWS):
        block = sparse.coo_matrix(first[:, start : start + _ROWS].T @ window)
        i, j, count = block.row.astype(np.int64) + start, block.col.astype(np.int64), block.data.astype(np.float64)
        expected = n_first[i] * n_window[j] / total
        squared += float(np.sum(count**2))
        cross += float(np.sum(count * expected))
        enough = (count >= options.min_pair_support) & (count > expected) & (i != j)
        found.append((i[enough], j[enough], count[enough].astype(np.int64), expected[enough]))
    # Pairs never seen together have (0 - E)^2 too, so the moments are taken over all pairs in closed form.
    all_expected = n_first.sum() * n_window.sum() / total
    all_squared = float((n_first**2).sum() * (n_window**2).sum()) / total**2
    strength = gamma_strength(squared - 2 * cross + all_squared, float(all_expected), all_squared)

    i, j, n = (np.concatenate([part[k] for part in found]) for k in range(3))
    expected = np.concatenate([part[3] for part in found])
    across = category[i] != category[j]
    complements, siblings = (
        _strongest(scope, options, strength, i[rows], j[rows], n[rows], expected[rows]) for rows in (across, ~across)
    )
    return complements, siblings, large.len()


def _strongest(
    scope: Scope,
    options: EvidenceOptions,
    strength: float,
    i: Ints,
    j: Ints,
    n: Ints,
    expected: npt.NDArray[np.float64],
) -> pl.DataFrame:
    # A cheap stand-in for the lower end (square-root scale) leaves few pairs for the exact quantiles.
    rough = (np.sqrt(n + strength) - Z / 2) ** 2 / (expected + strength)
    keep = (
        pl.DataFrame({"row": np.arange(len(i)), "i": i, "rough": rough})
        .sort(["i", "rough", "row"], descending=[False, True, False])
        .group_by("i", maintain_order=True)
        .head(2 * options.pairs_per_item)["row"]
        .to_numpy()
    )
    i, j, n, expected = i[keep], j[keep], n[keep], expected[keep]
    lift, low, high = shrunk_lift(n.astype(np.float64), expected, strength)
    ids = scope.items["item"]
    table = (
        pl.DataFrame(
            {
                "item": ids.gather(i),
                "other": ids.gather(j),
                "value": lift,
                "low": low,
                "high": high,
                "support": n,
                "neutral": np.ones(len(i)),
            }
        )
        .sort(["item", "low", "other"], descending=[False, True, False])
        .group_by("item", maintain_order=True)
        .head(options.pairs_per_item)
    )
    return table.select(_empty().columns)


def _within_window(lines: pl.DataFrame, days: float) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """(basket, item) of all that was bought in each basket or by the same user within ``days`` after it."""
    baskets = lines.select("user", "basket", "day").unique(maintain_order=True)
    later = (
        baskets.join(baskets.select("user", later="basket", later_day="day"), on="user")
        .filter(pl.col("later_day") >= pl.col("day"), pl.col("later_day") <= pl.col("day") + timedelta(days=days))
        .select("basket", "later")
        .join(lines.select("item", later="basket"), on="later")
        .select("basket", "item")
        .unique()
    )
    return later["basket"].to_numpy(), later["item"].to_numpy()


def _matrix(row: npt.NDArray[np.uint32], col: npt.NDArray[np.uint32], shape: tuple[int, int]) -> sparse.csc_matrix:
    ones = np.ones(len(row), dtype=np.int32)
    return sparse.csc_matrix((ones, (row.astype(np.int64), col.astype(np.int64))), shape=shape)


def _sums(matrix: sparse.csc_matrix) -> npt.NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()


def _empty() -> pl.DataFrame:
    numbers: dict[str, type[pl.DataType]] = dict.fromkeys(("value", "low", "high"), pl.Float64)
    return pl.DataFrame(
        schema={"item": pl.String, "other": pl.String, **numbers, "support": pl.Int64, "neutral": pl.Float64}
    )
