"""Reading times: text, numbers and typed columns become UTC microseconds, or are found wanting with a reason."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from rolegen_errors import InputError

UTC_TIME = pl.Datetime("us", "UTC")
ISO_FORMATS = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M:%S UTC",
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%d %H:%M:%S%.f%:z",
    "%Y-%m-%dT%H:%M:%S%.f%:z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d",
)
_HOUR = 3_600_000_000
MISSING, UNREADABLE, ZONELESS, SKIPPED_HOUR = range(1, 5)
"""problems of a time; 0 is none"""


def read_times(raw: pl.Series, formats: Sequence[str], timezone: str | None) -> tuple[pl.Series, pl.Series]:
    """UTC times and their problems (UInt8), each as long as ``raw``.

    ``formats`` are tried in turn on what is still unread; empty means ISO 8601. A time without a zone is local to
    ``timezone``: of an hour that a clock change repeats the earlier is taken, one that it skips is a problem.
    """
    dtype = raw.dtype
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        times = raw.dt.cast_time_unit("us").dt.convert_time_zone("UTC")
        return times, times.is_null().cast(pl.UInt8) * MISSING
    if isinstance(dtype, pl.Datetime | pl.Date):
        return _localise(raw.cast(pl.Datetime("us")), raw.is_null(), timezone)
    if formats and formats[0] in ("s", "ms"):
        return _from_epoch(raw, 1_000_000 if formats[0] == "s" else 1_000)
    if dtype != pl.String:
        raise InputError(
            f"times are of type {dtype}", fix='say in [data] time_format whether they count "s" or "ms" since 1970'
        )
    text = raw.str.strip_chars()
    missing = text.is_null() | (text == "")
    times = pl.Series(raw.name, [None], dtype=UTC_TIME).extend_constant(None, len(raw) - 1) if len(raw) else raw
    problems = missing.cast(pl.UInt8) * MISSING
    todo = ~missing
    for pattern in _most_likely_first(text, formats or ISO_FORMATS):
        if not todo.any():
            break
        parsed = _parse(text.set(~todo, None) if not todo.all() else text, pattern)
        hit = parsed.is_not_null()
        if not hit.any():
            continue
        found, trouble = (parsed, None) if parsed.dtype == UTC_TIME else _localise(parsed, ~hit, timezone)
        times = found if hit.all() else times.zip_with(~hit, found)
        if trouble is not None:
            problems = problems.zip_with(~hit, trouble)
        todo = todo & ~hit
    return times, problems.set(todo, UNREADABLE)


def _parse(text: pl.Series, pattern: str) -> pl.Series:
    """Times in UTC when the pattern speaks of a zone, else naive; null where the pattern does not fit."""
    offset = "%z" in pattern or "%:z" in pattern
    try:
        parsed = text.str.to_datetime(pattern, time_unit="us", strict=False, time_zone="UTC" if offset else None)
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"the time format '{pattern}' is not understood: {error}", where="[data] time_format"
        ) from error
    return parsed.dt.replace_time_zone("UTC") if not offset and pattern.endswith(("Z", " UTC")) else parsed


def _localise(naive: pl.Series, missing: pl.Series, timezone: str | None) -> tuple[pl.Series, pl.Series]:
    if timezone is None:
        times = naive.dt.replace_time_zone("UTC")
        return times, pl.select(pl.when(missing).then(MISSING).otherwise(ZONELESS).cast(pl.UInt8)).to_series()
    times = _to_utc(naive, timezone)
    if times.null_count() == missing.sum():
        return times, missing.cast(pl.UInt8) * MISSING
    skipped = times.is_null() & ~missing
    return times, missing.cast(pl.UInt8) * MISSING + skipped.cast(pl.UInt8) * SKIPPED_HOUR


def _to_utc(naive: pl.Series, timezone: str) -> pl.Series:
    """Local times in UTC, null where the clock skipped them.

    A look into the zone's rules is dear, so it is made once for each hour of a span and only the rows of hours in
    which the clock changes are looked up one by one.
    """
    ticks = naive.cast(pl.Int64)
    low, high = ticks.min(), ticks.max()
    if not isinstance(low, int) or not isinstance(high, int) or (high - low) // _HOUR > len(naive):
        return _look_up(naive, timezone)
    start = low // _HOUR * _HOUR
    hours = pl.int_range(start, high + 2 * _HOUR, _HOUR, dtype=pl.Int64, eager=True).cast(pl.Datetime("us"))
    zoned = _look_up(hours, timezone).dt.replace_time_zone(None)
    lag = (hours - zoned).cast(pl.Int64)
    steady = (lag == lag.shift(-1)).fill_null(False)
    index = (ticks - start) // _HOUR
    times = (ticks - lag.gather(index)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if steady.gather(index).all():
        return times
    sure = steady.gather(index).fill_null(True)
    return times.zip_with(sure, _look_up(naive.set(sure, None), timezone))


def _look_up(naive: pl.Series, timezone: str) -> pl.Series:
    zoned = naive.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return zoned.dt.convert_time_zone("UTC")


def _from_epoch(raw: pl.Series, microseconds: int) -> tuple[pl.Series, pl.Series]:
    text = raw.str.strip_chars() if raw.dtype == pl.String else raw
    missing = text.is_null() | (text == "") if raw.dtype == pl.String else raw.is_null()
    # Through a float a microsecond of today would be lost, so whole numbers stay whole.
    whole = text.cast(pl.Int64, strict=False)
    fraction = (text.cast(pl.Float64, strict=False) * microseconds).cast(pl.Int64, strict=False)
    times = (whole * microseconds).zip_with(whole.is_not_null(), fraction).cast(pl.Datetime("us"))
    unreadable = times.is_null() & ~missing
    problems = missing.cast(pl.UInt8) * MISSING + unreadable.cast(pl.UInt8) * UNREADABLE
    return times.dt.replace_time_zone("UTC"), problems


def _most_likely_first(text: pl.Series, formats: Sequence[str]) -> list[str]:
    """The formats by how many of the first texts they read, so that the bulk of a log is parsed once."""
    sample = text.head(200)
    hits = {pattern: _parse(sample, pattern).is_not_null().sum() for pattern in formats}
    return sorted(formats, key=lambda pattern: -hits[pattern])
