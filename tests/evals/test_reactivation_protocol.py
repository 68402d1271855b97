"""Who is asked about, what counts as right, and that no system can see its future."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rolegen_errors import FutureError, InputError
from rolegen_evals.reactivation.lineup import BASELINES
from rolegen_evals.reactivation.protocol import TASKS, TEST, VALIDATION, Past, Shop
from rolegen_evals.reactivation.rolegen import DIVERSE, Variant
from rolegen_evals.reactivation.run import slates_of
from rolegen_evals.reactivation.systems import Ask, System

from .reactivation_shop import CUT, Row, events, items_of, random_rows, shop

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "popularity": {"days": 28},
    "frequency": {"half_life": 365},
    "tifu_knn": {"group": 2, "within": 0.9, "between": 0.7, "neighbours": 5, "own": 0.5},
    "item_knn": {
        "unit": "basket", "weighting": "tfidf", "shrink": 1.0, "neighbours": 10, "half_life": 180, "itself": 0.5,
    },
    "ease": {"penalty": 5.0, "learn_half_life": 0, "ask_half_life": 180},
    "ranker": {
        "objective": "binary", "least_gap": 36, "leaves": 4, "trees": 10, "rate": 0.1, "least_rows": 5, "columns": 1.0,
        "l2": 0.0, "negatives": 10,
    },
}  # fmt: skip
SETTINGS = {**SETTINGS, "ranker_full": SETTINGS["ranker"]}
SMALL = Variant(
    "rolegen",
    {"width": 16, "layers": 1, "history": 16, "levels": 2, "codebook": 8},
    {"epochs": 1, "max_returns": 120, "max_hints": 8, "max_spells": 60, "batch": 32},
)


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


def of(name: str) -> System:
    return SMALL if name == "rolegen" else BASELINES[name].system(dict.fromkeys(TASKS, SETTINGS[name]))


def test_a_case_is_a_dormant_customer_who_orders_within_thirty_days() -> None:
    found = shop(
        [
            ("back", "mug", -100), ("back", "tray", 5), ("back", "mug", 5.1), ("back", "lamp", 20),
            ("late", "mug", -100), ("late", "mug", 62),
            ("awake", "mug", -89), ("awake", "mug", 3),
            ("twice", "mug", -200), ("twice", "mug", 31.5),
            ("away", "tray", -150),
            ("fresh", "clock", 10),
        ]
    ).cases  # fmt: skip
    assert found.dormant == 7, "late, away and twice on both dates, back on the first"
    assert {(case.key, case.basket, case.new) for case in found.cases} == {
        ("back@2011-03-01", frozenset({"mug", "tray"}), frozenset({"tray"})),
        ("twice@2011-04-01", frozenset({"mug"}), frozenset()),
    }
    assert [case.user for case in found.of("all")] == ["back", "twice"]
    assert [case.user for case in found.of("discovery")] == ["back"]


def test_the_dates_are_those_of_the_protocol() -> None:
    assert [f"{at:%m-%d}" for at in TEST.dates] == ["06-01", "07-01", "08-01", "09-01", "10-01", "11-01"]
    assert VALIDATION.end <= TEST.cut - timedelta(days=31), "choosing settings ends a month before the test's cut"
    assert f"{VALIDATION.end:%Y-%m-%d}" == "2011-05-01"


def test_a_past_holds_nothing_of_its_date_or_later() -> None:
    rows: list[Row] = [("a", "mug", -1), ("a", "tray", 0), ("b", "lamp", 1)]
    log = events(rows)
    past = Past.of(log, items_of(log), CUT)
    assert past.events.height == 1 and past.ids.tolist() == ["mug"] and past.log.users.tolist() == ["a"]
    with pytest.raises(FutureError, match="2011-03-01"):
        Past(CUT, log, items_of(log))
    late = events([("a", "mug", 61)])
    assert Shop(late, items_of(late), VALIDATION).past(VALIDATION.end + timedelta(days=9)).events.height == 0


def test_a_price_is_not_learnt_from_days_to_come() -> None:
    log = events([("a", "mug", -2), ("b", "mug", -1), ("a", "mug", 1), ("c", "mug", 2), ("d", "mug", 3)])
    log = log.with_columns(price=pl.Series([1.0, 3.0, 90.0, 90.0, 90.0]))
    assert Past.of(log, items_of(log), CUT).items["price"].to_list() == [2.0]


@pytest.mark.parametrize("name", [*SETTINGS, "rolegen"])
def test_no_marker_from_the_future_reaches_a_slate(name: str, tmp_path: Path) -> None:
    """On the days after each date everybody buys one item over and over, and a new one appears; not a slate may change."""
    rows = random_rows()
    clean = shop(rows)
    at = clean.period.dates[0]
    users = clean.cases.users(at)
    assert len(users) >= 5
    planted = [
        (f"u{user:03d}", item, day + 0.01) for user in range(60) for item in ("i00", "MARKER") for day in range(30)
    ]
    marked = shop([*rows, *planted])
    answers = []
    for place, one in enumerate((clean, marked)):
        fitted = of(name).fit(one.past(one.period.cut), seed=0, folder=tmp_path / str(place), progress=quiet)
        answers.append([fitted.slates(Ask(one.past(at), users, task)) for task in TASKS])
    assert answers[0] == answers[1]
    slates = [slate for answer in answers[0] for slate in answer.values()]
    assert all(len(slate) == len(set(slate)) == 10 for slate in slates)
    own = dict(clean.past(at).events.group_by("user").agg("item").iter_rows())
    assert not any(set(slate) & set(own[user]) for user, slate in answers[0][1].items()), "discovery shows own items"


@pytest.mark.parametrize("name", ["frequency", "rolegen"])
def test_items_that_were_first_sold_after_the_cut_can_be_shown(name: str, tmp_path: Path) -> None:
    planted: list[Row] = [(f"v{user}", "NEW", 20.5) for user in range(40)]
    one = shop([*random_rows(), *planted])
    assert "NEW" not in one.past(one.period.cut).ids and "NEW" in one.past(one.period.dates[1]).ids
    slates = slates_of(of(name), one, seed=0, folder=tmp_path / name, progress=quiet)
    shown = [slate for key, slate in slates["discovery"].items() if key.endswith("04-01")]
    assert shown
    if name == "frequency":  # falls back on what sells, and that is the new item
        assert all("NEW" in slate for slate in shown)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    one = shop(random_rows(users=6))
    past = one.past(CUT)
    user = str(past.log.users[0])
    with pytest.raises(InputError, match="shape"):
        Ask(past, (user,), "all").best(past.counts[:2].toarray())
    with pytest.raises(InputError, match="'nobody'"):
        _ = Ask(past, ("nobody",), "all").rows


def test_the_diverse_variant_is_the_same_training_ranked_otherwise(tmp_path: Path) -> None:
    one = shop(random_rows())
    diverse = replace(SMALL, name="rolegen_diverse", diversity=DIVERSE)
    assert diverse.settings != SMALL.settings, "finished slates of one must not pass for the other's"
    plain, varied = (
        slates_of(variant, one, seed=0, folder=tmp_path / variant.name, progress=quiet)["all"]
        for variant in (SMALL, diverse)
    )
    assert plain.keys() == varied.keys() and plain != varied
    assert all(slate[0] == varied[key][0] and len(varied[key]) == len(slate) for key, slate in plain.items())
    assert len(list(tmp_path.glob("backbone-*"))) == 1
