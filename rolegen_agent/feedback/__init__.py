"""What comes back from the shop: outcomes by file, log, call or tool, the credit for them, and what was shown."""

from __future__ import annotations

from .crediting import AttributionReport, attribute_orders
from .files import read_reports
from .from_log import record_from_log
from .recording import FeedbackReport, Row, record_rows, retry_letters
from .shown import write_shown

__all__ = [
    "AttributionReport",
    "FeedbackReport",
    "Row",
    "attribute_orders",
    "read_reports",
    "record_from_log",
    "record_rows",
    "retry_letters",
    "write_shown",
]
