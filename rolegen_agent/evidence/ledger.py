"""What each user contributes to the statistics, kept beside the artefact so that a later log need not be read anew.

A user's rows depend on that user's events alone, and not on the as-of time: a row whose horizon is still open says when it began, and
the tables count it once the horizon is over. So only users whose events changed are read again, be it by new events, by late ones, by a
refund, or by an item that moved to another category; the rows of everybody else stand. A checksum of each user's events tells who that is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rolegen_errors import ProjectError

from .buying import gateway_rows, replenishment_rows, target_rows
from .consideration import anchor_rows, comparison_rows
from .effects import effect_rows
from .intent import bridge_rows, entries, trigger_rows
from .log import EVENT_COLUMNS, Log, Scope, read_catalogue, read_log, require_columns, require_zone
from .options import EvidenceOptions

VERSION = 1
"""Raise it when rows change their columns or meaning: an older ledger is then not built upon."""
CATEGORY_COLUMNS = ("category", "other", "need", "goes", "entered", "paid_in")
ITEM_COLUMNS = ("item", "bought", "alone")
"""columns of the rows that hold codes of the catalogue"""
_COLUMNS = ("time", "behaviour", "quantity", "price", "session", "propensity")
"""of an event, what a statistic can depend on beside its item"""

Codes = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Ledger:
    """The rows of all users as of one moment."""

    scope: Scope
    options: EvidenceOptions
    users: pl.DataFrame
    """user (id), number (in the rows), checksum (of the user's events)"""
    rows: Mapping[str, pl.DataFrame]
    """by statistic; ``user`` is a number, items and categories are codes of ``scope``"""

    def save(self, folder: Path) -> None:
        """One Parquet file for each kind of row, and last the manifest."""
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "ledger.json"
        manifest.unlink(missing_ok=True)
        # No count depends on the order of rows, and equal logs are to give equal files.
        ordered = {name: frame.sort(frame.columns) for name, frame in self.rows.items()}
        for name, frame in {**ordered, "users": self.users, "catalogue": self.scope.items}.items():
            frame.write_parquet(folder / f"{name}.parquet")
        content = {
            "made_by": _made_by(self.options),
            "at": self.scope.at.isoformat(),
            "has_views": self.scope.has_views,
            "has_exposures": self.scope.has_exposures,
            "categories": self.scope.categories,
            "options": asdict(self.options),
            "rows": {name: frame.height for name, frame in self.rows.items()},
        }
        manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def without(self, user: str) -> Ledger:
        """The same with nothing of one user in it; where that user is in the log still, a later reading reads them anew."""
        numbers = self.users.filter(pl.col("user") == user)["number"].implode()
        rows = {name: frame.filter(~pl.col("user").is_in(numbers)) for name, frame in self.rows.items()}
        return replace(self, users=self.users.filter(pl.col("user") != user), rows=rows)

    @classmethod
    def load(cls, folder: Path) -> Ledger:
        """What ``save`` wrote; raises ``ProjectError`` when it is missing, damaged or not to be built upon."""
        path, again = folder / "ledger.json", "compute the evidence without it: rolegen train --force"
        if not path.is_file():
            raise ProjectError("there is no finished ledger of the evidence", where=str(folder), fix=again)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            options = EvidenceOptions(**content["options"])
            if content["made_by"] != _made_by(options):
                raise ProjectError("another version wrote this ledger of the evidence", where=str(path), fix=again)
            rows = {name: pl.read_parquet(folder / f"{name}.parquet") for name in content["rows"]}
            if {name: frame.height for name, frame in rows.items()} != content["rows"]:
                raise ProjectError("the ledger's files do not fit its manifest", where=str(path), fix=again)
            scope = Scope(
                items=pl.read_parquet(folder / "catalogue.parquet"),
                categories=tuple(content["categories"]),
                at=datetime.fromisoformat(content["at"]),
                has_views=content["has_views"],
                has_exposures=content["has_exposures"],
            )
            return cls(scope, options, pl.read_parquet(folder / "users.parquet"), rows)
        except (ValueError, KeyError, TypeError, OSError, pl.exceptions.PolarsError) as error:
            raise ProjectError(
                f"the ledger of the evidence cannot be read: {error}", where=str(folder), fix=again
            ) from error


@dataclass(frozen=True)
class UserRows:
    """What some users contribute."""

    users: pl.Series
    """ids in order"""
    rows: Mapping[str, pl.DataFrame]
    """by statistic, as in a ledger; ``user`` is the place in ``users``"""


UserReader = Callable[[pl.DataFrame, Scope, EvidenceOptions], UserRows]
"""from the events of some users, all of theirs, to their rows"""


@dataclass(frozen=True)
class Reading:
    """A ledger brought up to a moment, and what that took."""

    ledger: Ledger
    read: int
    """users whose events were read"""
    why_anew: str | None
    """why nothing that was kept could be built upon; None where it was"""


def read_ledger(
    events: pl.DataFrame,
    items: pl.DataFrame,
    *,
    at: datetime,
    options: EvidenceOptions,
    earlier: Ledger | None = None,
    reader: UserReader | None = None,
) -> Reading:
    """The rows of all users as of ``at``; users whose events are those that ``earlier`` was made of are not read again.

    ``reader`` makes the rows of those that are, by itself or with others: None is :func:`read_users`.
    """
    read = reader or read_users
    require_columns(events, EVENT_COLUMNS, "events")
    require_zone(at)
    catalogue, categories = read_catalogue(items)
    now, views, exposures = _checksums(events, catalogue, at)
    scope = Scope(items=catalogue, categories=categories, at=at, has_views=views, has_exposures=exposures)
    why = "nothing was kept" if earlier is None else _why_anew(earlier, scope, options)
    if earlier is None or why is not None:
        every = read(events, scope, options)
        users = pl.DataFrame({"user": every.users}).with_row_index("number").join(now, on="user", maintain_order="left")
        return Reading(Ledger(scope, options, users, every.rows), users.height, why)

    known = now.join(
        earlier.users.select("user", "number", before="checksum"), on="user", how="left", maintain_order="left"
    )
    same = (pl.col("checksum") == pl.col("before")).fill_null(False)
    changed = known.filter(~same)
    fresh = read(events.filter(pl.col("user").is_in(changed["user"].implode())), scope, options)
    begin = int(earlier.users["number"].max() or 0) + 1  # type: ignore[arg-type]
    new = pl.col("number").is_null()
    numbered = known.with_columns(
        number=pl.when(new).then(new.cum_sum() + begin - 1).otherwise("number").cast(pl.UInt32)
    )
    users = numbered.select("user", "number", "checksum")
    stands = np.zeros(begin, dtype=np.bool_)
    stands[numbered.filter(same)["number"].to_numpy()] = True
    number = pl.DataFrame({"user": fresh.users}).join(users, on="user", how="left", maintain_order="left")["number"]
    renumber = _Renumbering.of(earlier.scope, scope)
    rows = {
        name: pl.concat(
            [
                renumber(frame.filter(pl.Series(stands[frame["user"].to_numpy()]))),
                fresh.rows[name].with_columns(user=number.gather(fresh.rows[name]["user"])),
            ]
        )
        for name, frame in earlier.rows.items()
    }
    return Reading(Ledger(scope, options, users, rows), changed.height, None)


def read_users(events: pl.DataFrame, scope: Scope, options: EvidenceOptions) -> UserRows:
    """The rows of the users whose events these are, all of theirs."""
    log = _read(events, scope)
    return UserRows(log.users, _rows(log, options))


def together(parts: Sequence[UserRows]) -> UserRows:
    """The rows of all users from those of ranges of them, in the order of their ids."""
    users = pl.concat([part.users for part in parts])
    rows: dict[str, list[pl.DataFrame]] = {name: [] for name in parts[0].rows}
    begin = 0
    for part in parts:
        for name, frame in part.rows.items():
            rows[name].append(frame.with_columns(pl.col("user") + pl.lit(begin, pl.UInt32)))
        begin += len(part.users)
    return UserRows(users, {name: pl.concat(frames) for name, frames in rows.items()})


def _rows(log: Log, options: EvidenceOptions) -> dict[str, pl.DataFrame]:
    states = entries(log, options)
    rebuys, intervals = replenishment_rows(log, options)
    return {
        "tally": log.engaged.group_by("user")
        .agg(engaged=pl.len())
        .join(log.refunded.group_by("user").agg(refunded=pl.len()), on="user", how="full", coalesce=True)
        .fill_null(0),
        "trigger": trigger_rows(log, states, options),
        **bridge_rows(log, states, options),
        "anchor": anchor_rows(log, options),
        "comparison": comparison_rows(log),
        "orders": log.orders.select("user", "item", "day", "time"),
        "gateway": gateway_rows(log, options),
        "replenishment": rebuys,
        "intervals": intervals,
        "target": target_rows(log, options),
        **effect_rows(log, options),
    }


def _read(events: pl.DataFrame, scope: Scope) -> Log:
    """The log of some users; what a log tells at all is known from all of them."""
    log = read_log(events, scope.items, at=scope.at)
    return Log(**{**log.__dict__, "has_views": scope.has_views, "has_exposures": scope.has_exposures})


def _checksums(events: pl.DataFrame, catalogue: pl.DataFrame, at: datetime) -> tuple[pl.DataFrame, bool, bool]:
    """user and checksum of the events of known items before ``at``, by user; whether there are views or carts, and exposures.

    In which order the log has events of one and the same moment is not in the checksum: the store keeps it.
    """
    facts = catalogue.select("item", "price", what=pl.struct("item", "category").hash()).rename({"price": "list_price"})
    columns = [name for name in _COLUMNS if name in events.columns]
    known = events.select("user", "item", *columns).filter(pl.col("time") < at).join(facts, on="item")
    found = (
        known.with_columns(price=pl.coalesce("price", "list_price"))
        .select("user", digest=pl.struct("what", *columns).hash())
        .group_by("user")
        # The number of events beside their sum: equal events must not cancel out.
        .agg(checksum=pl.col("digest").sum() ^ pl.len().hash())
        .sort("user")
    )
    kinds = set(known["behaviour"].unique().to_list())
    return found, bool(kinds & {"view", "cart"}), "expose" in kinds


def _made_by(options: EvidenceOptions) -> str:
    """What rows and checksums depend on beside the log: polars promises equal hashes within one version only."""
    return hashlib.sha256(repr((VERSION, pl.__version__, options)).encode()).hexdigest()[:16]


def _why_anew(earlier: Ledger, scope: Scope, options: EvidenceOptions) -> str | None:
    if earlier.options != options:
        return "windows or floors have changed"
    if (earlier.scope.has_views, earlier.scope.has_exposures) != (scope.has_views, scope.has_exposures):
        return "views or exposures have come into the log, or gone"
    return None


@dataclass(frozen=True)
class _Renumbering:
    """From the codes of one catalogue to those of a later one."""

    items: Codes
    categories: Codes

    @classmethod
    def of(cls, before: Scope, after: Scope) -> _Renumbering:
        """Codes that are gone become 0: whoever had events of theirs is read again, so that no row has them."""

        def place(old: pl.Series, new: pl.Series) -> Codes:
            found = pl.DataFrame({"name": old}).join(
                pl.DataFrame({"name": new}).with_row_index("code"), on="name", how="left", maintain_order="left"
            )
            return found["code"].fill_null(0).to_numpy().astype(np.uint32)

        return cls(
            place(before.items["item"], after.items["item"]),
            place(pl.Series(before.categories, dtype=pl.String), pl.Series(after.categories, dtype=pl.String)),
        )

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        named = {**dict.fromkeys(ITEM_COLUMNS, self.items), **dict.fromkeys(CATEGORY_COLUMNS, self.categories)}
        return frame.with_columns(
            pl.Series(place).gather(frame[name]).alias(name) for name, place in named.items() if name in frame.columns
        )
