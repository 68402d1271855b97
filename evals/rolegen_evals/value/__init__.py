"""Off-policy estimates against values that are known: planted shops, planted slates, and a log of two real policies."""

from __future__ import annotations

from .benchmark import run_value

__all__ = ["run_value"]
