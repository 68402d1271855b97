"""The outer loop's updates: what came of decisions makes the next ones better, or is rolled back."""

from .run import ImproveReport, improve

__all__ = ["ImproveReport", "improve"]
