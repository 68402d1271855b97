"""Grounding: from an item spec to a real item that can be bought at the decision time, or to a reason why not.

``catalogue`` is the loop's port; ``stock`` says what can be bought when, ``choice`` filters and orders. Titles are compared
by ``tfidf`` or ``embedded``; above some size ``word_index`` and ``vector_index`` name the few hundred that are compared,
and ``opening`` builds all that once and keeps it in the store.
"""

from .catalogue import TextCatalogue, open_catalogue
from .opening import open_similarity
from .similarity import Similarity

__all__ = ["Similarity", "TextCatalogue", "open_catalogue", "open_similarity"]
