"""The windows and floors of the role evidence: every number that turns a log into statistics, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

FORMAT_VERSION = 2
"""Raise it when a table changes its columns or its meaning: an older folder is then computed anew, not misread."""

INTERVAL = 0.90
"""Coverage of every interval."""


@dataclass(frozen=True, kw_only=True)
class EvidenceOptions:
    """Windows in days (fractions allowed, for logs of a few hours) and support floors in observations."""

    active_days: float = 30.0
    """a (user, category) pair is *active* this long after an engagement; else its intent is none"""
    horizon_days: float = 30.0
    """how long after an event its consequence may come (trigger, bridge, anchor, closing rate)"""
    complement_days: float = 14.0
    """a complement is bought in the same basket or this long after"""
    return_days: float = 90.0
    """a first order opened repeat buying when the next one came within this time; an order that nobody followed
    for this long is terminal"""
    rebuy_days: float = 180.0
    """how long after a purchase a rebuy still counts"""
    min_support: int = 10
    """an item with fewer observations has no statistic"""
    min_pair_support: int = 5
    """a pair with fewer joint observations has no statistic"""
    pairs_per_item: int = 30
    """complements kept for each item, by the lower end of the interval"""
    bridges_per_item: int = 3
    max_basket: int = 100
    """larger baskets (wholesale) say little about what belongs together and are left out of pair counts, counted"""
    margin: float = 1.25
    """equivalence margin of ``incidental``: a lift between 1/margin and margin moves nothing"""
    difference_margin: float = 0.1
    """the same margin for a statistic that is a difference of rates"""
    effect_margin: float = 0.03
    """the same margin for an effect on the probability of an order"""

    def span(self, days: float) -> timedelta:
        return timedelta(days=days)
