"""What comes back from the shop: outcomes by file, log, call or tool, the credit for them, and what was shown."""

from __future__ import annotations

from .crediting import AttributionReport, attribute_orders
from .files import read_reports
from .from_log import record_from_log
from .from_source import open_source, record_from_source
from .recording import FeedbackReport, Row, record_rows, retry_letters
from .shown import write_shown

__all__ = [
    "AttributionReport",
    "FeedbackReport",
    "Row",
    "attribute_orders",
    "open_source",
    "read_reports",
    "record_from_log",
    "record_from_source",
    "record_rows",
    "retry_letters",
    "write_shown",
]
