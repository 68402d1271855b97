"""The computed evidence: one table for each role, looked up by item, kept as Parquet beside a JSON manifest."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from rolegen_errors import InputError, ProjectError
from rolegen_graphs.words import Role, Statistic

from .next_order import NextOrder
from .options import FORMAT_VERSION, EvidenceOptions
from .signals import FEATURES
from .units import Kind

NAMES: dict[str, str] = {
    "trigger": "trigger.reentry_lift",
    "bridge": "bridge.asymmetry",
    "anchor": "anchor.cheaper_bought_lift",
    "comparison": "comparison.coview_minus_cobuy",
    "complement": "complement.directed_lift",
    "gateway": "gateway.second_order_lift",
    "replenishment": "replenishment.rebuy_lift",
    "target": "target.closing_rate",
    "incidental": "incidental.reach_of_margin",
}
CATEGORY_PAIRS = "bridge_categories"
SIBLINGS = "siblings"
ITEMS = "items"
EFFECTS = "effects"


@dataclass(frozen=True)
class _Rows:
    """One role's table as plain lists; the rows of one item stand together, the strongest first."""

    name: str
    kind: Kind
    span: dict[str, tuple[int, int]]
    other: list[str]
    numbers: list[tuple[float, float, float, int, float]]

    @classmethod
    def of_table(cls, name: str, kind: Kind, table: pl.DataFrame) -> _Rows:
        items = table["item"].to_list()
        span: dict[str, tuple[int, int]] = {}
        for row, item in enumerate(items):
            span[item] = (span.get(item, (row, row))[0], row + 1)
        other = table["other"].to_list() if "other" in table.columns else [""] * len(items)
        return cls(name, kind, span, other, table.select("value", "low", "high", "support", "neutral").rows())

    @classmethod
    def none(cls) -> _Rows:
        return cls("", "association", {}, [], [])

    def of(self, item: str) -> range:
        return range(*self.span.get(item, (0, 0)))

    def statistic(self, row: int) -> Statistic:
        value, low, high, support, neutral = self.numbers[row]
        return Statistic(
            name=self.name, value=value, low=low, high=high, support=support, neutral=neutral, kind=self.kind
        )


@dataclass(frozen=True)
class Evidence:
    """All role statistics as of one moment. ``kinds`` says of each role whether its statistic is a doubly robust effect; an
    association says nothing of what an intervention would do.

    ``tables`` maps each role to a frame with the columns item, value, low, high, support, neutral (``complement`` and
    ``bridge`` also have ``other``); ``bridge_categories`` has category instead of item, ``siblings`` are item
    pairs within one category (no role); ``effects`` holds the effects of items by intent state; ``items`` is item, title, category. A role without support in the log has an empty table.
    """

    at: datetime
    """only events strictly before it were used"""
    tables: dict[str, pl.DataFrame]
    counts: dict[str, int]
    next_order: NextOrder
    """ranks what a returning user buys; fitted on returns before ``at``"""
    options: EvidenceOptions = field(default_factory=EvidenceOptions)
    names: dict[str, str] = field(default_factory=lambda: dict(NAMES))
    kinds: dict[str, Kind] = field(default_factory=lambda: dict.fromkeys(NAMES, "association"))
    seconds: float = 0.0
    told: str = ""
    """how many users were read for it, and on what it was built"""

    @property
    def shown(self) -> bool:
        """Whether the log told what was shown, so that effects could be estimated."""
        return "dr" in self.kinds.values()

    def statistic(self, role: Role, item: str, *, other: str | None = None) -> Statistic | None:
        """What the log says for ``role`` and ``item``; None where support is below the floor.

        Args:
            other: the other item of a complement, the category that a bridge leads to; None = the strongest one.
        """
        rows = self._rows(role)
        for row in rows.of(item):
            if other is None or rows.other[row] == other:
                return rows.statistic(row)
        return None

    def others(self, role: Role, item: str) -> dict[str, Statistic]:
        """The statistics of ``item`` by the other item (complement) or category (bridge), strongest first."""
        rows = self._rows(role)
        return {rows.other[row]: rows.statistic(row) for row in rows.of(item)}

    def number(self, role: Role, item: str, column: str) -> float | None:
        """One further column of a role's table, such as ``interval_days`` of replenishment; None where unknown."""
        return self._numbers(role, column).get(item)

    def item_table(self, item: str) -> pl.DataFrame:
        """All statistics of one item: role, item, other, state, statistic, value, low, high, support, neutral, kind.

        Rows without a role are the effects by intent state that the roles are read from.

        Raises ``InputError`` for an item outside the catalogue.
        """
        if self.tables[ITEMS].filter(pl.col("item") == item).is_empty():
            raise InputError(
                "no such item in the catalogue", where=f"item {item}", fix="see the items that were ingested"
            )
        return self._of_items([item])

    def category_table(self, category: str) -> pl.DataFrame:
        """The statistics of every item in ``category``, and its bridges to other categories (with an empty item)."""
        members = self.tables[ITEMS].filter(pl.col("category") == category)["item"]
        if members.is_empty():
            known = ", ".join(self.tables[ITEMS]["category"].unique().sort().head(10).to_list())
            raise InputError("no such category in the catalogue", where=category, fix=f"for instance: {known}")
        pairs = self.tables[CATEGORY_PAIRS].filter(pl.col("category") == category)
        shown = self._of_items(members.to_list())
        if pairs.is_empty():
            return shown
        lifts = self._labelled("bridge", pairs.with_columns(item=pl.lit("")))
        # Between whole categories it stays a lift, also where the items' own bridges are effects.
        return pl.concat([shown, lifts.with_columns(statistic=pl.lit(NAMES["bridge"]), kind=pl.lit("association"))])

    def save(self, folder: Path) -> None:
        """Write one Parquet file for each table, and last the manifest, so that a killed write is not read."""
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "manifest.json"
        manifest.unlink(missing_ok=True)
        for name, table in self.tables.items():
            table.write_parquet(folder / f"{name}.parquet")
        content = {
            "version": FORMAT_VERSION,
            "at": self.at.isoformat(),
            "tables": {name: table.height for name, table in self.tables.items()},
            "names": self.names,
            "kinds": self.kinds,
            "counts": self.counts,
            "next_order": asdict(self.next_order) | {"features": list(FEATURES)},
            "options": asdict(self.options),
            "seconds": round(self.seconds, 3),
            "told": self.told,
        }
        manifest.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Evidence:
        """Read what ``save`` wrote; raises ``ProjectError`` when it is missing, damaged or of another version."""
        path = folder / "manifest.json"
        again = "compute the evidence again: rolegen train"
        if not path.is_file():
            raise ProjectError("there is no finished role evidence", where=str(folder), fix=again)
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["version"] != FORMAT_VERSION:
                raise ProjectError(
                    f"the role evidence has format {manifest['version']}, this RoleGen reads {FORMAT_VERSION}",
                    where=str(path),
                    fix=again,
                )
            model = manifest["next_order"]
            if tuple(model.pop("features")) != FEATURES:
                raise ProjectError(
                    "the next-order model has other signals than this RoleGen", where=str(path), fix=again
                )
            tables = {name: pl.read_parquet(folder / f"{name}.parquet") for name in manifest["tables"]}
            found = {name: table.height for name, table in tables.items()}
            if found != manifest["tables"]:
                raise ProjectError("the tables do not fit their manifest", where=str(path), fix=again)
            return cls(
                at=datetime.fromisoformat(manifest["at"]),
                tables=tables,
                counts=manifest["counts"],
                next_order=NextOrder(**model | {"own": tuple(model["own"]), "new": tuple(model["new"])}),
                options=EvidenceOptions(**manifest["options"]),
                names=manifest["names"],
                kinds=manifest["kinds"],
                seconds=manifest["seconds"],
                told=manifest.get("told", ""),
            )
        except (ValueError, KeyError, TypeError, OSError, pl.exceptions.PolarsError) as error:
            raise ProjectError(f"the role evidence cannot be read: {error}", where=str(folder), fix=again) from error

    def _rows(self, role: str) -> _Rows:
        if role not in self._cache:
            known = role in self.names
            self._cache[role] = (
                _Rows.of_table(self.names[role], self.kinds[role], self.tables[role]) if known else _Rows.none()
            )
        return self._cache[role]

    @cached_property
    def _cache(self) -> dict[str, _Rows]:
        return {}

    def _numbers(self, role: str, column: str) -> dict[str, float]:
        cache: dict[tuple[str, str], dict[str, float]] = self.__dict__.setdefault("_number_cache", {})
        if (role, column) not in cache:
            table = self.tables[role]
            rows = table.select("item", column).drop_nulls().drop_nans().iter_rows() if column in table.columns else ()
            cache[(role, column)] = {item: float(value) for item, value in rows}
        return cache[(role, column)]

    def _of_items(self, items: list[str]) -> pl.DataFrame:
        chosen = {
            name: table.filter(pl.col("item").is_in(items))
            for name, table in self.tables.items()
            if "item" in table.columns
        }
        effects = chosen[EFFECTS].select(
            role=pl.lit(None, pl.String),
            item="item",
            other=pl.lit(None, pl.String),
            state="state",
            statistic=pl.format("effect.{}", "outcome"),
            value="value",
            low="low",
            high="high",
            support="support",
            neutral="neutral",
            kind="kind",
        )
        return pl.concat(
            [*(self._labelled(role, table) for role, table in chosen.items() if role in self.names), effects]
        )

    def _labelled(self, role: str, table: pl.DataFrame) -> pl.DataFrame:
        def optional(name: str) -> pl.Expr:
            return pl.col(name) if name in table.columns else pl.lit(None, pl.String).alias(name)

        return table.select(
            pl.lit(role).alias("role"),
            pl.col("item"),
            optional("other"),
            optional("state"),
            pl.lit(self.names[role]).alias("statistic"),
            "value",
            "low",
            "high",
            pl.col("support").cast(pl.Int64),
            "neutral",
            pl.lit(self.kinds[role]).alias("kind"),
        )
