"""What all tests share. Sockets are open to loopback only (see the options of pytest in pyproject.toml)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import polars as pl
import pytest

ROOT = Path(__file__).resolve().parent.parent

# No test may depend on, or pay for, an endpoint that happens to be configured on the machine.
for name in [
    name
    for name in os.environ
    if name.startswith(("OPENAI_", "ROLEGEN_", "LANGSMITH_", "LANGCHAIN_", "OTEL_", "OPENINFERENCE_"))
]:
    if not name.startswith("ROLEGEN_TEST_"):
        del os.environ[name]

# Side by side, torch's threads would wait for each other more than they work.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files are handed to processes in this order: what takes minutes begins first, so that nobody waits for it at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable


@pytest.fixture(scope="session")
def shop_events() -> pl.DataFrame:
    """Canonical events of the bundled shop, read without the project's own ingestion: 0.8 million rows, in time order."""
    from rolegen_agent.ingest import bundled_log  # a fault in there must not fail tests that do not need it

    item = pl.col("StockCode").str.to_uppercase()
    refund = pl.col("InvoiceNo").str.starts_with("C") | (pl.col("Quantity") < 0)
    return (
        pl.scan_parquet(bundled_log())
        .filter(pl.col("CustomerID").is_not_null(), item.str.contains(r"^\d{5}"), pl.col("Quantity") != 0)
        .sort("InvoiceDate", maintain_order=True)
        .with_row_index("event")
        .select(
            "event",
            pl.col("CustomerID").cast(pl.String).alias("user"),
            item.alias("item"),
            pl.col("InvoiceDate").dt.replace_time_zone("UTC").alias("time"),
            pl.when(refund).then(pl.lit("refund")).otherwise(pl.lit("order")).alias("behaviour"),
            pl.col("Quantity").abs().cast(pl.Float64).alias("quantity"),
            pl.col("UnitPrice").alias("price"),
            pl.col("InvoiceNo").alias("session"),
            pl.lit(None, dtype=pl.Float64).alias("propensity"),
        )
        .collect()
    )


@pytest.fixture(scope="session")
def shop_slice(shop_events: pl.DataFrame) -> pl.DataFrame:
    """The same for one customer in twenty: a small real log."""
    return shop_events.filter(pl.col("user").cast(pl.Int64) % 20 == 0)
