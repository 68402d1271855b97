"""The small real shop for all tests of the product."""

from tests.support.shop import line, project, rolegen, shop, trained

__all__ = ["line", "project", "rolegen", "shop", "trained"]
