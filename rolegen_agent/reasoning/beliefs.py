"""How far the log supports a role of an item, as one number between 0 and 1."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl
from scipy import special

from rolegen_graphs.words import Role

from ..evidence.shrink import Z
from ..evidence.store import EFFECTS, Evidence

WORTHWHILE = 1.1
"""a lift counts as an effect when it is likely above this"""
WORTHWHILE_DIFFERENCE = 0.02
"""the same for a difference of rates"""
WORTHWHILE_EFFECT = 0.01
"""the same for a doubly robust effect of one exposure"""
UNKNOWN = 0.5
"""belief where the log has no statistic: it neither supports nor contradicts"""


class Beliefs:
    """P(the effect is worth mentioning) from each statistic's interval, by role and item, computed once."""

    def __init__(self, evidence: Evidence) -> None:
        self.single: dict[str, dict[str, float]] = {}
        self.complements_of: dict[str, dict[str, float]] = defaultdict(dict)
        """by item: the items that it complements"""
        self.bridges_from: dict[str, dict[str, float]] = defaultdict(dict)
        """by item: the categories that it leads to"""
        for role in evidence.names:
            table = evidence.tables[role]
            if role == "incidental" or table.is_empty():
                self.single[role] = dict.fromkeys(table["item"].to_list(), 1.0)
                continue
            value, low, high = (table[name].to_numpy() for name in ("value", "low", "high"))
            if evidence.kinds[role] == "dr" or role == "comparison":
                margin = WORTHWHILE_EFFECT if evidence.kinds[role] == "dr" else WORTHWHILE_DIFFERENCE
                z = (value - margin) / np.maximum((high - low) / (2 * Z), 1e-9)
            else:
                spread = (np.log(np.maximum(high, 1e-9)) - np.log(np.maximum(low, 1e-9))) / (2 * Z)
                z = np.log(np.maximum(value, 1e-9) / WORTHWHILE) / np.maximum(spread, 1e-9)
            belief = special.ndtr(z).tolist()
            if role == "complement":
                for item, other, strength in zip(table["item"], table["other"], belief, strict=True):
                    self.complements_of[other][item] = strength
            elif role == "bridge":
                for item, category, strength in zip(table["item"], table["other"], belief, strict=True):
                    self.bridges_from[item][category] = strength
            else:
                self.single[role] = dict(zip(table["item"].to_list(), belief, strict=True))

        self._per_look: dict[tuple[str, str, str], float] = {}
        if evidence.shown:
            known = evidence.tables[EFFECTS].filter(pl.col("kind") == "dr")
            rows = known.select("item", "state", "outcome", per_look=pl.col("value") / pl.col("looked").clip(0.01))
            self._per_look = {(item, state, outcome): value for item, state, outcome, value in rows.iter_rows()}

    def per_look(self, item: str, state: str, outcome: str) -> float:
        """How much likelier one look makes the outcome, in [0, 1]: the effect of showing the item by the share that look at it."""
        return min(max(self._per_look.get((item, state, outcome), 0.0), 0.0), 1.0)

    def of(self, role: Role, item: str) -> float:
        return self.single.get(role, {}).get(item, UNKNOWN)
