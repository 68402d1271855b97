"""Evidence that is brought up to date is the evidence that would be computed anew, table by table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from rolegen_agent.artefacts import learn_evidence
from rolegen_agent.evidence import Evidence, EvidenceOptions, Ledger, Update, compute_evidence, update_evidence
from rolegen_agent.facade import RoleGen
from rolegen_errors import ProjectError
from rolegen_evals.reasoning.effects import options_of
from rolegen_evals.worlds import WORLDS, Knobs, plant
from tests.agent.test_evidence import items_of
from tests.support.shop import small_log, write_project

LOOSE = EvidenceOptions(min_support=3, min_pair_support=2)


def assert_same(found: Evidence, anew: Evidence) -> None:
    assert found.counts == anew.counts
    assert (found.names, found.kinds) == (anew.names, anew.kinds)
    assert found.tables.keys() == anew.tables.keys()
    for name, table in anew.tables.items():
        try:
            assert_frame_equal(found.tables[name], table, rel_tol=1e-7, abs_tol=1e-9)
        except AssertionError as error:
            error.add_note(f"in the table {name}")
            raise
    for have, want in ((found.next_order.own, anew.next_order.own), (found.next_order.new, anew.next_order.new)):
        assert have == pytest.approx(want, abs=1e-6)


def brought_up(
    events: pl.DataFrame, items: pl.DataFrame, cuts: Sequence[datetime], options: EvidenceOptions, folder: Path
) -> list[Update]:
    """One update after another, each from what the last one left on the disk, each checked against the whole."""
    found: list[Update] = []
    earlier = None
    for cut in cuts:
        # Nothing after the cut exists yet, as it would be in a shop.
        log = events.filter(pl.col("time") < cut)
        update = update_evidence(log, items, at=cut, options=options, earlier=earlier)
        assert_same(update.evidence, compute_evidence(log, items, at=cut, options=options))
        update.ledger.save(folder / cut.date().isoformat())
        earlier = Ledger.load(folder / cut.date().isoformat())
        found.append(update)
    return found


@pytest.fixture(scope="module")
def planted() -> tuple[pl.DataFrame, pl.DataFrame, EvidenceOptions]:
    shop = WORLDS["staged"].open(3, Knobs())
    log = plant(shop, 260, seed=3)
    # Half of the users come months after the others have left.
    later = pl.when(pl.col("user") >= "u000130").then(timedelta(days=100)).otherwise(timedelta(0))
    events = log.events.with_columns(time=pl.col("time") + later).sort("user", "time", maintain_order=True)
    return events, log.items, options_of(shop)


def test_a_real_log_month_by_month(shop_slice: pl.DataFrame, tmp_path: Path) -> None:
    cuts = [datetime(2011, month, 1, tzinfo=UTC) for month in (3, 4, 7)]
    found = brought_up(shop_slice, items_of(shop_slice), cuts, LOOSE, tmp_path)
    assert found[0].why_anew == "nothing was kept" and found[0].read == found[0].users
    for before, update in pairwise(found):
        assert update.why_anew is None and 0 < update.read < update.users
        past = shop_slice.filter(pl.col("time") < update.evidence.at)
        new = past.filter(pl.col("time") >= before.evidence.at)["user"].n_unique()
        assert update.read == new, "whoever did nothing since is not read again, although horizons ended meanwhile"
    assert "users read" in found[-1].evidence.told


def test_a_planted_log_with_exposures(
    planted: tuple[pl.DataFrame, pl.DataFrame, EvidenceOptions], tmp_path: Path
) -> None:
    events, items, options = planted
    start = events["time"].min()
    assert isinstance(start, datetime)
    cuts = [start + timedelta(days=days) for days in (90, 118, 170, 206)]
    found = brought_up(events, items, cuts, options, tmp_path)
    assert all(update.evidence.shown for update in found)
    assert 0 < found[2].read < found[2].users
    assert found[-1].evidence.counts["effect_units"] > 2_000


def test_late_events_refunds_new_items_and_other_categories(
    planted: tuple[pl.DataFrame, pl.DataFrame, EvidenceOptions],
) -> None:
    events, items, options = planted
    start = events["time"].min()
    assert isinstance(start, datetime)
    old, new = start + timedelta(days=150), start + timedelta(days=180)  # the first half of the users has left
    absent, mover = items["item"][5], items["item"][20]  # the first sorts into the middle: every later code shifts
    events = events.filter((pl.col("user") < "u000020") | ~pl.col("item").is_in([absent, mover]))
    late = (pl.col("user") == "u000007") & (pl.col("time") < old - timedelta(days=30))
    known = events.filter(~late & (pl.col("item") != absent) & (pl.col("time") < old))
    first = update_evidence(known, items.filter(pl.col("item") != absent), at=old, options=options)

    sale = events.filter((pl.col("behaviour") == "order") & (pl.col("time") < old) & (pl.col("user") < "u000100")).head(
        1
    )
    refund = sale.with_columns(
        behaviour=pl.lit("refund"), time=pl.lit(new - timedelta(days=1), pl.Datetime("us", "UTC"))
    )
    grown = pl.concat([events.filter(pl.col("time") < new), refund]).sort("user", "time", maintain_order=True)
    moved = items.with_columns(category=pl.when(pl.col("item") == mover).then(pl.lit("another")).otherwise("category"))
    whole = update_evidence(grown, moved, at=new, options=options, earlier=first.ledger)
    assert whole.why_anew is None and 20 < whole.read < whole.users - 50
    assert_same(whole.evidence, compute_evidence(grown, moved, at=new, options=options))

    only_late = events.filter((pl.col("item") != absent) & (pl.col("time") < old))
    again = update_evidence(
        only_late, items.filter(pl.col("item") != absent), at=old, options=options, earlier=first.ledger
    )
    assert again.read == 1, "a user whose old events came late is read again, and nobody else"
    assert_same(
        again.evidence, compute_evidence(only_late, items.filter(pl.col("item") != absent), at=old, options=options)
    )


def test_who_is_taken_out_of_a_ledger_is_in_no_row_of_it_and_comes_back_only_from_the_log(
    shop_slice: pl.DataFrame, tmp_path: Path
) -> None:
    at, items = datetime(2011, 4, 1, tzinfo=UTC), items_of(shop_slice)
    person = shop_slice.filter(pl.col("time") < at)["user"].value_counts(sort=True)["user"][0]
    whole = update_evidence(shop_slice, items, at=at, options=LOOSE).ledger
    rest = whole.without(person)
    [number] = whole.users.filter(pl.col("user") == person)["number"]
    assert person not in rest.users["user"] and len(rest.users) == len(whole.users) - 1
    lost = {name: frame.height - rest.rows[name].height for name, frame in whole.rows.items()}
    assert lost == {name: (frame["user"] == number).sum() for name, frame in whole.rows.items()} and sum(lost.values())
    rest.save(tmp_path)
    for log in (shop_slice, shop_slice.filter(pl.col("user") != person)):
        found = update_evidence(log, items, at=at, options=LOOSE, earlier=Ledger.load(tmp_path))
        assert_same(found.evidence, compute_evidence(log, items, at=at, options=LOOSE))
        assert found.read == (log is shop_slice)


def test_what_cannot_be_built_upon_is_computed_anew_and_said(
    planted: tuple[pl.DataFrame, pl.DataFrame, EvidenceOptions], tmp_path: Path
) -> None:
    events, items, options = planted
    at = datetime(2030, 4, 1, tzinfo=UTC)
    blind = update_evidence(events.filter(pl.col("behaviour") != "expose"), items, at=at, options=options)
    seen = update_evidence(events, items, at=at, options=options, earlier=blind.ledger)
    assert seen.why_anew is not None and "exposures" in seen.why_anew and seen.read == seen.users
    assert seen.why_anew in seen.evidence.told
    wider = EvidenceOptions(active_days=99)
    assert "windows" in str(update_evidence(events, items, at=at, options=wider, earlier=blind.ledger).why_anew)

    blind.ledger.save(tmp_path)
    (tmp_path / "orders.parquet").write_bytes(b"not parquet")
    with pytest.raises(ProjectError, match="cannot be read"):
        Ledger.load(tmp_path)
    (tmp_path / "ledger.json").unlink()
    with pytest.raises(ProjectError, match="no finished ledger"):
        Ledger.load(tmp_path)


def test_a_later_training_builds_on_the_earlier_ones_evidence(tmp_path: Path) -> None:
    with RoleGen.open(write_project(tmp_path, small_log(40))) as shop:
        shop.ingest()
        store = pl.read_parquet(shop.project.events)
        items = items_of(store)
        before, later = datetime(2011, 8, 1, tzinfo=UTC), datetime(2011, 9, 1, tzinfo=UTC)
        first = shop.project.artefacts(before) / "evidence"
        assert "nothing was kept" in learn_evidence(shop.project, store, items, before, first).told
        kept = shop.project.artefacts(later) / "evidence"
        evidence = learn_evidence(shop.project, store, items, later, kept)
        assert "the others stand as of 2011-08-01" in evidence.told
        assert_same(evidence, compute_evidence(store, items, at=later))
        assert_same(Evidence.load(kept), evidence)
        assert Evidence.load(kept).told == evidence.told

        (kept / "ledger" / "orders.parquet").write_bytes(b"not parquet")
        again = learn_evidence(shop.project, store, items, later, kept)
        assert "nothing was kept" in again.told and "cannot be read" in again.told
        assert_same(again, evidence)
