"""Checks that a part of your own may stand behind a port of the loop; run them in your tests.

>>> from rolegen_graphs.conformance import check_recommender
>>> check_recommender(mine, users=["12349"], at=at, items=catalogue_ids)  # doctest: +SKIP

For chat models and embeddings LangChain has such checks: the package ``langchain-tests``.
"""

from .catalogues import check_catalogue
from .observers import check_observer
from .reasoners import check_reasoner
from .recommenders import check_recommender
from .rules import ConformanceError

__all__ = ["ConformanceError", "check_catalogue", "check_observer", "check_reasoner", "check_recommender"]
