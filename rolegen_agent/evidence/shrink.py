"""Empirical-Bayes shrinkage: a small sample moves its item only as far from the prior mean as it deserves.

Rates get a beta prior and counts a gamma prior whose strengths are estimated by the method of moments from all
items together. Sources: Casella (1985), "An introduction to empirical Bayes data analysis"; DuMouchel (1999),
"Bayesian data mining in large frequency tables", for the gamma-Poisson lift (one component here).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from .options import INTERVAL

Floats = npt.NDArray[np.float64]
LOW, HIGH = (1 - INTERVAL) / 2, (1 + INTERVAL) / 2
Z = float(special.ndtri(HIGH))


def summed(group: npt.NDArray[np.int64], weight: Floats, size: int) -> Floats:
    """Sum of ``weight`` by group, shape (size,)."""
    return np.bincount(group, weight, size).astype(np.float64)


def beta_strength(hits: Floats, trials: Floats, mean: Floats) -> float:
    """Prior strength in pseudo trials from the overdispersion of the rates around ``mean``; within [2, 1000]."""
    variance = mean * (1 - mean)
    excess = float(np.sum((hits - trials * mean) ** 2 / np.maximum(trials, 1)) - np.sum(variance))
    spread = float(np.sum(variance * np.maximum(trials - 1, 0)))
    if spread <= 0 or excess <= 0:
        return 1000.0
    return float(np.clip(spread / excess - 1, 2.0, 1000.0))


def shrunk_rate(hits: Floats, trials: Floats, mean: Floats, strength: float) -> tuple[Floats, Floats, Floats]:
    """Posterior mean and 90 % interval of each rate under a Beta(strength · mean, strength · (1 - mean)) prior."""
    mean = np.clip(mean, 1e-6, 1 - 1e-6)
    a = hits + strength * mean
    b = trials - hits + strength * (1 - mean)
    return a / (a + b), special.betaincinv(a, b, LOW), special.betaincinv(a, b, HIGH)


def gamma_strength(squared_excess: float, expected: float, squared_expected: float) -> float:
    """Prior strength of a lift in expected counts: 1 / Var(lift) by moments; within [0.5, 100].

    Args:
        squared_excess: sum over all pairs of (count - expected count) squared.
        expected: sum over all pairs of the expected counts, the part of the spread that Poisson noise explains.
        squared_expected: sum over all pairs of the squared expected counts.
    """
    variance = (squared_excess - expected) / squared_expected if squared_expected > 0 else 0.0
    return float(np.clip(1 / variance, 0.5, 100.0)) if variance > 0 else 100.0


def shrunk_lift(count: Floats, expected: Floats, strength: float) -> tuple[Floats, Floats, Floats]:
    """Posterior mean and 90 % interval of count / expected under a Gamma prior with mean 1."""
    a, b = count + strength, expected + strength
    return a / b, special.gammaincinv(a, LOW) / b, special.gammaincinv(a, HIGH) / b
