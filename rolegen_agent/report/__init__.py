"""The HTML report: one self-contained page about a run, for people to read.

Import it where it is needed; it loads charts and templates, no torch.
"""

from __future__ import annotations

from .customer import CustomerSection, customer_section
from .page import write_report
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
    "write_report",
]
