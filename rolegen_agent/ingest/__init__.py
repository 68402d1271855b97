"""Ingestion: event logs and catalogues as CSV, gzipped CSV or Parquet become the canonical store of a project."""

from .bundled import bundled_log
from .report import FileReport, IngestReport
from .run import Progress, ingest

__all__ = ["FileReport", "IngestReport", "Progress", "bundled_log", "ingest"]
