"""The small real shop for all tests of the product."""

from tests.support.shop import project, rolegen, shop, trained

__all__ = ["project", "rolegen", "shop", "trained"]
