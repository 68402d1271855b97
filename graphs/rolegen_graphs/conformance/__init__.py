"""Checks that a part of your own may stand behind a port of the loop; run them in your tests.

>>> from rolegen_graphs.conformance import check_recommender
>>> check_recommender(mine, users=["12349"], at=at, items=catalogue_ids)  # doctest: +SKIP
"""

from .candidate_sources import check_candidate_source
from .catalogues import check_catalogue
from .memories import check_call_log, check_memory
from .models import check_chat_model, check_embeddings
from .observers import check_observer
from .outcome_sources import check_outcome_source
from .reasoners import check_reasoner
from .recommenders import check_recommender
from .rules import ConformanceError

__all__ = [
    "ConformanceError",
    "check_call_log",
    "check_candidate_source",
    "check_catalogue",
    "check_chat_model",
    "check_embeddings",
    "check_memory",
    "check_observer",
    "check_outcome_source",
    "check_reasoner",
    "check_recommender",
]
