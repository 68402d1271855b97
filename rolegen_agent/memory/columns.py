"""Column types that hold hostile text, times and words exactly, and alike on SQLite and PostgreSQL."""

from __future__ import annotations

import functools
import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy import DateTime, Dialect, Double, Text
from sqlalchemy.types import JSON, TypeDecorator

from rolegen_errors import InputError

# PostgreSQL refuses NUL and no driver encodes a lone surrogate, but titles and LLM answers may hold both. They are
# escaped behind DLE (which is then escaped itself), on both databases, so that a text is stored the same way everywhere.
_UNSTORABLE = re.compile("[\x00\x10\ud800-\udfff]")
_ESCAPED = re.compile("\x10([0-9a-f]{4})")


class SafeText(TypeDecorator[str]):
    """Text that returns exactly as given, whatever code points it holds."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or _UNSTORABLE.search(value) is None:
            return value
        return _UNSTORABLE.sub(lambda found: f"\x10{ord(found[0]):04x}", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or "\x10" not in value:
            return value
        return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), value)


class UtcTime(TypeDecorator[datetime]):
    """An instant: refuses a naive datetime, stores UTC, returns an aware one in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise InputError(
                "a time without a time zone cannot be stored", where=str(value), fix="pass an aware datetime"
            )
        utc = value.astimezone(UTC)
        # SQLite has no zones: its text form in UTC sorts in time order.
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Real(TypeDecorator[float]):
    """A double. NaN is refused: SQLite would turn it into NULL, and it is an error of the caller anyway."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: float | None, dialect: Dialect) -> float | None:
        if value is not None and math.isnan(value):
            raise InputError("a score or estimate is NaN and cannot be stored", fix="find where it was computed")
        return value


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


class Document(TypeDecorator[Any]):
    """JSON of one word (or a tuple or dict of them), validated when it is read. ``shape`` is its type."""

    impl = JSON
    cache_ok = True

    def __init__(self, shape: Any) -> None:
        super().__init__(none_as_null=True)
        self.shape = shape

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else _adapter(self.shape).dump_python(value, mode="json")

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else _adapter(self.shape).validate_python(value)


def _quote_infinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # "inf" and "-inf", which pydantic reads back as floats
    if isinstance(value, dict):
        return {key: _quote_infinite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quote_infinite(item) for item in value]
    return value


def dump_json(value: Any) -> str:
    """Strict JSON that both databases take: infinities as strings, lone surrogates as escapes."""
    try:
        return to_json(value, inf_nan_mode="strings").decode()
    except PydanticSerializationError:  # a lone surrogate has no UTF-8; as an ASCII escape it passes
        return json.dumps(_quote_infinite(value), allow_nan=False)
