"""The planted catalogue: each item has one disposition, which acts only where the state of the user lets it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_graphs.words import Role

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PLANTED: tuple[Role, ...] = (
    "trigger",
    "bridge",
    "anchor",
    "comparison",
    "complement",
    "gateway",
    "replenishment",
    "target",
    "incidental",
)
CODE = {role: code for code, role in enumerate(PLANTED)}
_EACH = {"target": 2, "incidental": 3}
"""items of a disposition in each category, times ``breadth``; 1 where not named"""
CLICKBAIT = 1.3
"""how much more, in log odds, people look at what moves nothing"""
_KINDS = [
    "kettle",
    "lantern",
    "ribbon",
    "basket",
    "candle",
    "mirror",
    "cushion",
    "drawer",
    "planter",
    "apron",
    "teapot",
    "garland",
]
_WORDS = [
    "amber",
    "ivory",
    "walnut",
    "copper",
    "linen",
    "slate",
    "coral",
    "velvet",
    "cobalt",
    "olive",
    "maple",
    "pearl",
    "russet",
    "indigo",
    "ochre",
]


@dataclass(frozen=True, eq=False)
class Goods:
    """I items as arrays of shape (I,). Titles tell category and a name, never the disposition."""

    ids: list[str]
    titles: list[str]
    categories: list[str]
    """names, by category code"""
    category: Ints
    price: Floats
    role: Ints
    """index into ``PLANTED``"""
    strength: Floats
    """chance that the disposition acts when the item is looked at in the right state"""
    pull: Floats
    """in [-1, 1]: how far an item draws (above 0) or bores (below -1/2) beside its disposition; 0 for what is incidental"""
    click: Floats
    """log odds of a look"""
    leads_to: Ints
    """bridges: the category they lead to; -1 for the others"""
    completes: Ints
    """complements: the category whose purchase they go with; -1 for the others"""
    interval: Floats
    """days between rebuys of a replenishment; 0 for the others"""

    def __len__(self) -> int:
        return len(self.ids)

    def is_a(self, role: Role) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = self.role == CODE[role]
        return found

    @classmethod
    def draw(cls, categories: int, breadth: int, pace: float, random: np.random.Generator) -> Goods:
        """A catalogue of ``categories`` times 12 times ``breadth`` items."""
        role = np.array(
            [CODE[name] for name in PLANTED for _ in range(_EACH.get(name, 1) * breadth)] * categories, np.int64
        )
        size = len(role)
        category = np.repeat(np.arange(categories), size // categories)
        other = (category + random.integers(1, categories, size)) % categories
        usual = random.uniform(5, 40, categories)[category]
        dear = np.where(role == CODE["anchor"], 2.5, np.where(role == CODE["gateway"], 0.5, 1.0))
        order = random.permutation(size)  # ids tell nothing
        draws = random.uniform(-1, 0.6, size)  # most bore a little or do nothing: a typical item moves nobody
        names = [
            _KINDS[c % len(_KINDS)] + ("" if c < len(_KINDS) else f" {c // len(_KINDS)}") for c in range(categories)
        ]
        return cls(
            ids=[f"P{number:05d}" for number in order],
            titles=[
                f"{_WORDS[n % len(_WORDS)]} {names[c]} {'no. ' + str(n // len(_WORDS)) if n >= len(_WORDS) else ''}".strip()
                for n, c in zip(np.arange(size) % (size // categories), category, strict=True)
            ],
            categories=names,
            category=category.astype(np.int64),
            price=np.round(usual * dear * random.uniform(0.8, 1.2, size), 2),
            role=role,
            strength=random.uniform(0.4, 0.95, size),
            pull=np.where(role == CODE["incidental"], 0.0, np.where(draws < 0, draws, draws / 0.6)),
            click=random.normal(0.2, 0.3, size) + np.where(role == CODE["incidental"], CLICKBAIT, 0.0),
            leads_to=np.where(role == CODE["bridge"], other, -1),
            completes=np.where(role == CODE["complement"], other, -1),
            interval=np.where(role == CODE["replenishment"], pace * np.round(random.uniform(6, 12, size)), 0.0),
        )

    def frame(self) -> pl.DataFrame:
        """The catalogue as the product reads it: item, title, category, price."""
        return pl.DataFrame(
            {
                "item": self.ids,
                "title": self.titles,
                "category": [self.categories[c] for c in self.category],
                "price": self.price,
            }
        )
