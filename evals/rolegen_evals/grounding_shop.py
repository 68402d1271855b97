"""What the grounding benchmark searches: a catalogue grown from the real titles of Online Retail II, and wishes for its items.

A title is the front of one real title and the tail of another, half of the time with a real word between, so that a million
of them differ and share words as titles of a shop do. The tail decides the category; categories have Zipf sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.feature_extraction.text import HashingVectorizer

from rolegen_agent.ingest import bundled_log
from rolegen_graphs.words import ItemSpec

AT = datetime(2011, 9, 1, tzinfo=UTC)
STOCK = 0.7
"""share of items that can be bought"""
BAND = 0.2
"""a price band reaches this share below and above a price"""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WIDTH, BUCKETS = 384, 2**14


def real_titles() -> list[str]:
    """Titles of the bundled log with two words or more, those of most lines first."""
    titles = pl.scan_parquet(bundled_log()).select(title=pl.col("Description").str.strip_chars()).drop_nulls()
    counted = titles.group_by("title").len().filter(pl.col("len") >= 5).sort("len", "title", descending=[True, False])
    found: list[str] = counted.collect()["title"].to_list()
    return [title for title in found if title == title.upper() and len(title.split()) > 1]


def grown(items: int, seed: int = 0) -> pl.DataFrame:
    """A catalogue of so many items with distinct titles: item, title, category, price, available, first_seen."""
    random = np.random.default_rng(seed)
    words = [title.split() for title in real_titles()]
    fronts = random.permutation(sorted({" ".join(one[: len(one) // 2]) for one in words})).tolist()
    tails = random.permutation(sorted({" ".join(one[len(one) // 2 :]) for one in words})).tolist()
    between = sorted({word for one in words for word in one if len(word) > 2})
    tail_weight = zipf(len(tails), 0.6)
    made: dict[str, int] = {}
    while len(made) < items:
        count = items // 2 + 1_000
        front = random.choice(len(fronts), count, p=zipf(len(fronts), 0.6)).tolist()
        tail = random.choice(len(tails), count, p=tail_weight).tolist()
        inner = np.where(random.random(count) < 0.5, random.integers(len(between), size=count), -1).tolist()
        for f, b, m in zip(front, tail, inner, strict=True):
            made.setdefault(f"{fronts[f]} {between[m]} {tails[b]}" if m >= 0 else f"{fronts[f]} {tails[b]}", b)
    titles, tail_of = list(made)[:items], np.fromiter(made.values(), np.int64)[:items]
    categories = 20 + int(items**0.5) // 2
    middle = np.cumsum(tail_weight) - tail_weight / 2  # of a tail's stretch; tails lie in random order
    shuffled = random.permutation(len(tails))
    place = np.empty(len(tails))
    place[shuffled] = np.cumsum(tail_weight[shuffled]) - tail_weight[shuffled] / 2
    category = np.searchsorted(np.cumsum(zipf(categories, 1.0)), place * (1 - 1e-9))[tail_of]
    price = np.round(np.exp(1 + 6 * np.abs(middle[tail_of] - 0.5) + random.normal(0, 0.5, items)) / 3, 2)
    return pl.DataFrame(
        {
            "item": [f"i{number:07d}" for number in range(items)],
            "title": titles,
            "category": [f"category {number}" for number in category.tolist()],
            "price": price,
            "available": random.random(items) < STOCK,
            "first_seen": pl.Series([AT - timedelta(days=400)]).new_from_index(0, items),
        }
    )


def sales(items: pl.DataFrame, lines: int = 100_000, seed: int = 1) -> pl.DataFrame:
    """Order lines of the last four weeks, by which equally similar items are ordered."""
    random = np.random.default_rng(seed)
    sold = random.permutation(items.height)[random.choice(items.height, lines, p=zipf(items.height, 0.8))]
    return pl.DataFrame(
        {
            "event": np.arange(lines),
            "item": items["item"].gather(sold),
            "time": [AT - timedelta(minutes=minutes) for minutes in random.integers(1, 28 * 1_440, lines).tolist()],
            "price": items["price"].gather(sold),
        }
    ).with_columns(user=pl.lit("u"), behaviour=pl.lit("order"), quantity=pl.lit(1.0), session=pl.lit(None, pl.String))


def wishes(items: pl.DataFrame, count: int, seed: int = 2) -> Mapping[str, list[ItemSpec]]:
    """``count`` specs of each kind: what a reasoner may ask for, and what it should not."""
    random = np.random.default_rng(seed)
    names = items["category"].unique().sort().to_list()
    kinds: dict[str, Callable[[Row], ItemSpec]] = {
        "full": lambda row: row.spec(_cut(row.title, random)),
        "text": lambda row: ItemSpec(role="target", text=_cut(row.title, random)),
        "misspelt": lambda row: row.spec(_misspelt(row.title, 2, random)),
        "garbled": lambda row: ItemSpec(
            role="target", text=" ".join(_misspelt(word, 1, random) for word in row.title.split())
        ),
        "foreign": lambda row: ItemSpec(role="target", text=row.title, category=names[random.integers(len(names))]),
        "sold_out": lambda row: row.spec(row.title),
    }
    made = {}
    for kind, make in kinds.items():
        rows = items.filter(pl.col("available") != (kind == "sold_out"))
        drawn = rows[random.choice(rows.height, count, replace=rows.height < count)]
        made[kind] = [make(Row(**row)) for row in drawn.select("title", "category", "price").iter_rows(named=True)]
    return made


@dataclass(frozen=True)
class Row:
    """One item, as a wish is made of it."""

    title: str
    category: str
    price: float

    def spec(self, text: str) -> ItemSpec:
        """``text`` in the item's category, around its price."""
        low, high = round(self.price * (1 - BAND), 2), round(self.price * (1 + BAND), 2)
        return ItemSpec(role="target", text=text, category=self.category, price_low=low, price_high=high)


class HashedWords:
    """Stands in for a sentence encoder of 384 numbers: random vectors of words and of their n-grams, added up."""

    model = "hashed words"

    def __init__(self) -> None:
        hashing = {"n_features": BUCKETS, "alternate_sign": False}
        self._parts = (
            HashingVectorizer(token_pattern=r"(?u)\w+", **hashing),
            HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), **hashing),
        )
        self._vectors = np.random.default_rng(0).standard_normal((BUCKETS, WIDTH), np.float32)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """(N, 384) numbers."""
        added = sum(part.transform(texts).astype(np.float32) @ self._vectors for part in self._parts)
        return np.asarray(added).tolist()  # type: ignore[no-any-return]


def zipf(count: int, exponent: float) -> npt.NDArray[np.float64]:
    """(count,) shares that fall with the rank to the power of ``exponent``."""
    weight = np.arange(1, count + 1) ** -exponent
    shares: npt.NDArray[np.float64] = weight / weight.sum()
    return shares


def _cut(title: str, random: np.random.Generator) -> str:
    """The title in small letters, often without one of its words."""
    words = title.lower().split()
    if len(words) > 2 and random.random() < 0.7:
        words.pop(int(random.integers(len(words))))
    return " ".join(words)


def _misspelt(text: str, edits: int, random: np.random.Generator) -> str:
    """``edits`` letters lost, changed or swapped."""
    letters = list(text.lower())
    for _ in range(edits):
        place, edit = int(random.integers(len(letters))), random.random()
        if edit < 0.4 and len(letters) > 1:
            del letters[place]
        elif edit < 0.8 or place + 1 == len(letters):
            letters[place] = LETTERS[random.integers(len(LETTERS))]
        else:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)
