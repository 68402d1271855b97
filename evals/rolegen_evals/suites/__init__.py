"""Suites: the same pinned decisions taken again with another prompt, model or reasoner, graded, and compared case by case."""
