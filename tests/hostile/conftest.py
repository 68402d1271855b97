"""The hostile shop, built once for all tests of this folder."""

from __future__ import annotations

import pytest

from tests.support.postgres import postgres_url
from tests.support.shop import line

from .shop import HostileShop, build

__all__ = ["line", "postgres_url"]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> HostileShop:
    """The shop, and what the loop decided on the customer of each case. Read it, never write to it."""
    return build(tmp_path_factory.mktemp("hostile") / "shop")
