"""The benchmark of off-policy values, small: estimates meet planted truths, and a log of two policies is read as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rolegen_errors import InputError
from rolegen_evals.bench import Order, run
from rolegen_evals.value.open_bandit import open_bandit_values
from rolegen_evals.value.planted import shop_values, slate_values


def test_a_shop_tells_what_another_policy_would_have_brought() -> None:
    for value, truth in shop_values("staged", users=3000, truth_users=9000, seed=0).values():
        for name in ("ips", "snips", "dr"):
            one = value.estimates[name]
            assert one.low is not None and one.high is not None
            assert one.low - 0.01 < truth < one.high + 0.01, name
        assert value.effective[0] > 500


def test_drawn_slates_tell_what_others_would_have_brought() -> None:
    judged = slate_values(users=600, temperature=0.5, seed=1)
    value, truth = judged["without_chance"]
    assert value.estimates["snips"].value == pytest.approx(truth, rel=0.15)
    assert abs(value.estimates["snips"].value - truth) < abs(value.logged.value - truth)


def bandit(folder: Path) -> None:
    """Two policies over four items whose click rates are known."""
    rates, random = np.array([0.02, 0.05, 0.1, 0.3]), np.random.default_rng(0)
    (folder / "open_bandit").mkdir()
    for campaign in ("men", "women"):
        for policy, chance in (("random", np.full(4, 0.25)), ("bts", np.array([0.1, 0.1, 0.2, 0.6]))):
            item = random.choice(4, 4000, p=chance)
            pl.DataFrame(
                {
                    "item_id": item,
                    "position": random.integers(1, 4, 4000),
                    "click": (random.random(4000) < rates[item]).astype(np.int64),
                    "propensity_score": chance[item],
                }
            ).write_parquet(folder / "open_bandit" / f"{policy}_{campaign}.parquet")


def test_each_policy_of_a_bandit_log_is_found_in_the_others(tmp_path: Path) -> None:
    bandit(tmp_path)
    found = open_bandit_values(tmp_path / "open_bandit")
    for name, truth in (("men_bts", 0.207), ("women_bts", 0.207), ("men_random", 0.1175), ("women_random", 0.1175)):
        value, own = found[name]
        assert own.value == pytest.approx(truth, abs=0.025)
        for one in value.estimates.values():
            assert one.value == pytest.approx(truth, abs=0.03)
    with pytest.raises(InputError, match="--data DIR"):
        open_bandit_values(tmp_path / "elsewhere")


def test_it_refuses_options_that_it_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="knows no --work"):
        run("value", Order(progress=lambda *_: None, work=tmp_path))
