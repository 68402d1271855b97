"""The command ``rolegen``. It stands on the roof: it may import everything, and nothing imports it."""

from .app import main

__all__ = ["main"]
