"""The log that comes with the package: Online Retail II (see ATTRIBUTION.md beside it)."""

from __future__ import annotations

from pathlib import Path


def bundled_log() -> Path:
    """Parquet file of the Online Retail II transactions, for the preset ``online_retail_ii``."""
    return Path(__file__).parent.parent / "data" / "online_retail_ii" / "online_retail_ii.parquet"
