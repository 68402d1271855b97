"""Off-policy value: what slates that were not shown would have brought, from the outcomes of sampled ones that were."""

from __future__ import annotations

from .estimators import Estimate, Value, estimate_value
from .places import place_probabilities
from .reward_model import crossfit
from .slates import SlateValue, value_of_slates

__all__ = [
    "Estimate",
    "SlateValue",
    "Value",
    "crossfit",
    "estimate_value",
    "place_probabilities",
    "value_of_slates",
]
