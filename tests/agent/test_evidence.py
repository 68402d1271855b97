"""Role evidence on logs small enough to be worked out by hand, and on a slice of the real one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rolegen_agent.evidence import Evidence, EvidenceOptions, compute_evidence
from rolegen_agent.evidence.shrink import beta_strength, shrunk_lift, shrunk_rate
from rolegen_errors import InputError, ProjectError

START = datetime(2024, 1, 1, 12, tzinfo=UTC)
AT = START + timedelta(days=730)
LOOSE = EvidenceOptions(min_support=5, min_pair_support=3)
Row = tuple[str, str, float, str]


def log(*rows: Row, price: float = 1.0) -> pl.DataFrame:
    """Events from (user, item, day since the start, behaviour)."""
    return (
        pl.DataFrame(
            [
                {
                    "user": user,
                    "item": item,
                    "time": START + timedelta(days=day),
                    "behaviour": behaviour,
                    "quantity": 1.0,
                    "price": price,
                    "session": None,
                    "propensity": None,
                }
                for user, item, day, behaviour in rows
            ],
            schema_overrides={
                "time": pl.Datetime("us", "UTC"),
                "session": pl.String,
                "quantity": pl.Float32,
                "price": pl.Float32,
                "propensity": pl.Float32,
            },
        )
        .sort("user", "time", maintain_order=True)
        .with_row_index("event")
    )


def catalogue(**categories: str) -> pl.DataFrame:
    """Items by id = category; an item's price is 10 if its name ends in 'dear', else 1."""
    return pl.DataFrame(
        {
            "item": list(categories),
            "title": [f"title of {item}" for item in categories],
            "category": list(categories.values()),
            "price": [10.0 if item.endswith("dear") else 1.0 for item in categories],
        }
    )


def test_a_rebought_item_is_replenishment_with_its_rhythm() -> None:
    rows: list[Row] = []
    for n in range(12):
        rows += [(f"u{n}", "coffee", day, "order") for day in (0, 30, 60)]
        rows += [(f"u{n}", "lamp", 0, "order")]
    evidence = compute_evidence(log(*rows), catalogue(coffee="food", lamp="home"), at=AT, options=LOOSE)
    coffee, lamp = evidence.statistic("replenishment", "coffee"), evidence.statistic("replenishment", "lamp")
    assert coffee is not None and lamp is not None
    # 12 of 24 (user, item) pairs were rebought: a base rate of one half, so certain rebuy is a lift of nearly 2.
    assert coffee.low > 1.5 and coffee.value < 2.0
    assert lamp.high < 0.5
    assert coffee.support == 12 and coffee.neutral == 1.0 and coffee.kind == "association"
    assert evidence.number("replenishment", "coffee", "interval_days") == 30.0
    assert evidence.number("replenishment", "coffee", "cv") == 0.0


def test_complements_cross_categories_and_have_a_direction() -> None:
    rows: list[Row] = []
    for n in range(10):  # the case follows the phone within the window, never the other way round
        rows += [(f"u{n}", "phone", 0, "order"), (f"u{n}", "case", 5, "order")]
    rows += [(f"v{n}", "bread", 0, "order") for n in range(60)]
    items = catalogue(phone="electronics", case="accessories", bread="food")
    evidence = compute_evidence(log(*rows), items, at=AT, options=LOOSE)
    forward = evidence.statistic("complement", "phone", other="case")
    assert forward is not None
    # 80 baskets; the case is in the window of 20 of them; 10 of 10 phones lead to it: lift 10 / (10 * 20 / 80) = 4,
    # pulled somewhat towards 1.
    assert 2.0 < forward.value < 4.0 and forward.low > 1.0 and forward.support == 10
    assert evidence.statistic("complement", "case", other="phone") is None
    assert evidence.statistic("complement", "phone") == forward


def test_items_of_one_category_are_siblings_not_complements() -> None:
    rows: list[Row] = [(f"u{n}", item, 0, "order") for n in range(10) for item in ("red", "blue")]
    rows += [(f"v{n}", "bread", 0, "order") for n in range(40)]
    evidence = compute_evidence(log(*rows), catalogue(red="cups", blue="cups", bread="food"), at=AT, options=LOOSE)
    assert evidence.tables["complement"].is_empty()
    assert set(evidence.tables["siblings"]["item"]) == {"red", "blue"}


def test_gateway_is_the_first_order_that_users_return_from() -> None:
    rows: list[Row] = []
    for n in range(20):
        rows += [(f"good{n}", "sample", 0, "order"), (f"good{n}", "bread", 20, "order")]
        rows += [(f"bad{n}", "gadget", 0, "order")]
    items = catalogue(sample="a", gadget="b", bread="c")
    evidence = compute_evidence(log(*rows), items, at=AT, options=LOOSE)
    sample, gadget = evidence.statistic("gateway", "sample"), evidence.statistic("gateway", "gadget")
    assert sample is not None and gadget is not None
    assert sample.low > 1.2 and gadget.high < 0.8
    assert evidence.statistic("gateway", "bread") is None, "it was never in a first order"
    target = evidence.statistic("target", "gadget")
    assert target is not None and target.name == "target.terminal_order_share", "the log has orders only"


def test_trigger_and_bridge_compare_given_no_active_intent() -> None:
    rows: list[Row] = []
    for n in range(20):  # the tent starts a camping need, the sock does not
        rows += [(f"a{n}", "tent", 0, "order"), (f"a{n}", "stove", 10, "order")]
        rows += [(f"b{n}", "sock", 0, "order")]
        rows += [(f"c{n}", "novel", 0, "order"), (f"c{n}", "stove", 5, "order")]
    items = catalogue(tent="camping", stove="camping", sock="camping", novel="books")
    evidence = compute_evidence(log(*rows), items, at=AT, options=LOOSE)
    tent, sock = evidence.statistic("trigger", "tent"), evidence.statistic("trigger", "sock")
    assert tent is not None and sock is not None
    # 60 entries of camping, 20 followed: a base of 1/3; the tent 20 of 20, the sock 0 of 20.
    assert tent.low > 2.0 and tent.value < 3.0 and sock.high < 0.5
    novel = evidence.statistic("bridge", "novel", other="camping")
    assert novel is not None and novel.value > 1.0
    assert novel.support == 20
    assert evidence.statistic("bridge", "stove") is None, "nothing leads back to books"
    pairs = evidence.tables["bridge_categories"]
    assert pairs.select("category", "other").rows() == [("books", "camping")]


def test_the_same_visit_again_within_the_window_is_no_new_entry() -> None:
    rows: list[Row] = [(f"u{n}", "tent", day, "order") for n in range(6) for day in (0, 10, 20)]
    evidence = compute_evidence(log(*rows), catalogue(tent="camping"), at=AT, options=LOOSE)
    tent = evidence.statistic("trigger", "tent")
    assert tent is not None and tent.support == 6, "one entry for each user; the later two found the need active"


def test_anchor_and_comparison_need_views() -> None:
    rows: list[Row] = []
    for n in range(20):
        rows += [(f"u{n}", "watchdear", 0, "view"), (f"u{n}", "watch", 0.01, "view"), (f"u{n}", "watch", 0.02, "order")]
        rows += [(f"w{n}", "strap", 0, "view")]
    items = catalogue(watchdear="watches", watch="watches", strap="watches")
    views = log(*rows).with_columns(
        price=pl.when(pl.col("item") == "watchdear").then(10.0).otherwise(1.0).cast(pl.Float32)
    )
    evidence = compute_evidence(views, items, at=AT, options=LOOSE)
    anchor = evidence.statistic("anchor", "watchdear")
    assert anchor is not None and anchor.low > 1.2
    strap = evidence.statistic("anchor", "strap")
    assert strap is not None and strap.high < 1.0
    assert evidence.number("anchor", "watchdear", "price_quantile") == 1.0
    comparison = evidence.statistic("comparison", "watch")
    assert comparison is not None and comparison.neutral == 0.0 and comparison.low > 0.3
    target = evidence.statistic("target", "watch")
    assert target is not None and target.name == "target.closing_rate" and target.low > 1.0

    orders = views.filter(pl.col("behaviour") == "order")
    without = compute_evidence(orders, items, at=AT, options=LOOSE)
    assert without.tables["anchor"].is_empty() and without.tables["comparison"].is_empty()


def test_incidental_needs_evidence_of_no_effect_not_absence_of_evidence() -> None:
    rows: list[Row] = []
    for n in range(4000):  # a coin decides what follows, the same for both items
        rows.append((f"u{n}", "salt" if n % 2 else "pepper", 0, "order"))
        if n % 4 < 2:
            rows.append((f"u{n}", "salt" if n % 2 else "pepper", 20, "order"))
    rows += [("x", "rare", 0, "order")]
    evidence = compute_evidence(log(*rows), catalogue(salt="food", pepper="food", rare="food"), at=AT)
    assert evidence.tables["incidental"]["item"].to_list() == ["pepper", "salt"]


def test_support_floor_and_refunds() -> None:
    rows: list[Row] = [(f"u{n}", "cup", day, "order") for n in range(9) for day in (0, 20)]
    at_floor = EvidenceOptions(min_support=10)
    cups = catalogue(cup="cups")
    assert compute_evidence(log(*rows), cups, at=AT, options=at_floor).statistic("replenishment", "cup") is None
    rows += [("u9", "cup", 0, "order"), ("u9", "cup", 20, "order")]
    ten = compute_evidence(log(*rows), cups, at=AT, options=at_floor).statistic("replenishment", "cup")
    assert ten is not None and ten.support == 10
    undone = [*rows, ("u9", "cup", 25, "refund"), ("u9", "cup", 26, "refund")]
    refunded = compute_evidence(log(*undone), cups, at=AT, options=at_floor)
    assert refunded.statistic("replenishment", "cup") is None, "a pair that was given back is no purchase"
    assert refunded.counts["refunded_user_item_pairs"] == 1


def test_shrinkage_numbers_by_hand() -> None:
    one = np.array([1.0])
    rate, low, high = shrunk_rate(one * 3, one * 4, one * 0.5, 6.0)
    assert rate[0] == pytest.approx(0.6)  # (3 + 3) / (4 + 6)
    assert low[0] < 0.6 < high[0]
    lift, low, high = shrunk_lift(one * 9, one * 1, 3.0)
    assert lift[0] == pytest.approx(3.0) and low[0] < 3.0 < high[0]  # (9 + 3) / (1 + 3)
    spread = beta_strength(np.array([0.0, 100.0]), np.array([100.0, 100.0]), np.array([0.5, 0.5]))
    alike = beta_strength(np.array([50.0, 50.0]), np.array([100.0, 100.0]), np.array([0.5, 0.5]))
    assert spread < 3.0 and alike == 1000.0


def test_nothing_at_or_after_the_as_of_time_matters(shop_slice: pl.DataFrame) -> None:
    at = datetime(2011, 1, 10, tzinfo=UTC)
    items = items_of(shop_slice)
    past = shop_slice.filter(pl.col("time") < at)
    marker = past.head(50).with_columns(time=pl.lit(at).cast(pl.Datetime("us", "UTC")))
    alone = compute_evidence(past, items, at=at, options=LOOSE)
    for future in (shop_slice, pl.concat([past, marker])):
        again = compute_evidence(future, items, at=at, options=LOOSE)
        assert again.next_order == alone.next_order
        for name, table in alone.tables.items():
            assert table.equals(again.tables[name]), name
        assert again.counts | {"events_later_ignored": 0} == alone.counts
    assert alone.counts["events_later_ignored"] == 0


def test_the_real_log_gives_sane_tables_that_survive_the_disk(shop_slice: pl.DataFrame, tmp_path: Path) -> None:
    at = datetime(2011, 4, 1, tzinfo=UTC)
    evidence = compute_evidence(shop_slice, items_of(shop_slice), at=at)
    assert evidence.counts["events_before"] + evidence.counts["events_later_ignored"] == shop_slice.height
    for role in ("trigger", "complement", "replenishment", "target"):
        table = evidence.tables[role]
        assert table.height > 20, role
        assert table.select((pl.col("low") <= pl.col("value")) & (pl.col("value") <= pl.col("high"))).to_series().all()
        assert table["support"].min() >= 5  # type: ignore[operator]
        assert table.select(pl.col("low", "high", "value").is_finite().all()).row(0) == (True, True, True)
    for role in ("anchor", "comparison"):
        assert evidence.tables[role].is_empty(), "the log has no views"
    evidence.save(tmp_path / "evidence")
    loaded = Evidence.load(tmp_path / "evidence")
    assert loaded.at == at and loaded.next_order == evidence.next_order and loaded.names == evidence.names
    assert all(table.equals(loaded.tables[name]) for name, table in evidence.tables.items())
    item = evidence.tables["complement"]["item"][0]
    assert loaded.statistic("complement", item) == evidence.statistic("complement", item)
    assert "complement" in loaded.item_table(item)["role"].to_list()
    category = loaded.tables["items"]["category"][0]
    assert set(loaded.category_table(category)["kind"]) <= {"association"}


def test_damaged_or_foreign_evidence_is_refused(shop_slice: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="no finished role evidence"):
        Evidence.load(tmp_path)
    evidence = compute_evidence(log(("u", "cup", 0, "order")), catalogue(cup="cups"), at=AT)
    evidence.save(tmp_path)
    manifest = tmp_path / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(content | {"version": 999}), encoding="utf-8")
    with pytest.raises(ProjectError, match="format 999"):
        Evidence.load(tmp_path)
    manifest.write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "trigger.parquet").write_bytes(b"not parquet")
    with pytest.raises(ProjectError, match="cannot be read"):
        Evidence.load(tmp_path)


def test_unknown_names_and_bad_input_say_what_to_do() -> None:
    events, items = log(("u", "cup", 0, "order"), ("u", "ghost", 0, "order")), catalogue(cup="cups")
    evidence = compute_evidence(events, items, at=AT)
    assert evidence.counts["events_of_unknown_items"] == 1
    assert evidence.next_order.fitted is False
    with pytest.raises(InputError, match="no such item"):
        evidence.item_table("ghost")
    with pytest.raises(InputError, match="no such category"):
        evidence.category_table("ghosts")
    with pytest.raises(InputError, match="lacks behaviour"):
        compute_evidence(events.drop("behaviour"), items, at=AT)
    with pytest.raises(InputError, match="timezone"):
        compute_evidence(events, items, at=AT.replace(tzinfo=None))
    nameless = items.with_columns(category=pl.lit(None, pl.String))
    with pytest.raises(InputError, match="'cup' has no category"):
        compute_evidence(events, nameless, at=AT)


def items_of(events: pl.DataFrame) -> pl.DataFrame:
    """A catalogue of the log's items: the first two digits of a code stand for its category."""
    return (
        events.group_by("item")
        .agg(pl.col("price").median().cast(pl.Float32))
        .sort("item")
        .select("item", title="item", category=pl.col("item").str.head(2), price="price")
    )
