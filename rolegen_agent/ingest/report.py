"""What an ingestion did, row for row; stored as ``.rolegen/ingest.json``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Counted(BaseModel):
    """Rows read, each of them kept, dropped under a reason or quarantined under a reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    """rows read; a CSV heading is no row"""
    kept: int
    dropped: dict[str, int] = Field(default_factory=dict)
    """reason -> rows that are no events of a user, known for this layout or asked for in the project file"""
    quarantined: dict[str, int] = Field(default_factory=dict)
    """reason -> bad rows, written to the quarantine file"""

    @model_validator(mode="after")
    def _nothing_lost(self) -> Self:
        accounted = self.kept + sum(self.dropped.values()) + sum(self.quarantined.values())
        if accounted != self.rows:
            raise ValueError(f"{self.rows} rows were read, but {accounted} are accounted for")
        return self


class FileReport(_Counted):
    """The rows of one input file."""

    file: str


class IngestReport(_Counted):
    """All input files together, and what the store holds now."""

    files: list[FileReport]
    users: int
    items: int
    """items of the store, with those that only the catalogue knows"""
    events: dict[str, int]
    """behaviour -> events"""
    first: datetime
    last: datetime
    seconds: float
    """wall-clock time"""
    quarantine: str | None = None
    """path of the quarantine file, if a row was bad"""
    settings: dict[str, Any]
    """the [data] section that was used"""
    format: int = 1
    """of the store: 1 numbered events by row, 2 names them by their content"""
