"""One self-contained HTML page about a run: figures, charts, and every customer's story.

Names load on first use: drawing charts is heavy, and the command line only needs the words.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .customer import CustomerSection, customer_section
    from .page import write_page, write_report
    from .words import Fact, Figure, Metric, Report, System, reasoner_words

__all__ = [
    "CustomerSection",
    "Fact",
    "Figure",
    "Metric",
    "Report",
    "System",
    "customer_section",
    "reasoner_words",
    "write_page",
    "write_report",
]

_HOME = {"CustomerSection": "customer", "customer_section": "customer", "write_page": "page", "write_report": "page"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME.get(name, 'words')}", __name__), name)
