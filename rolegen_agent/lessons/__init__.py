"""Lessons: the outer loop's rules, born from outcomes, judged by outcomes, and handed to later decisions."""

from .learning import LearningReport, learn
from .retrieval import Retrieval

__all__ = ["LearningReport", "Retrieval", "learn"]
