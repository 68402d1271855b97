"""`rolegen improve` on a small real shop: promoted once, rolled back when worse, killed anywhere, blind to the future."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from filelock import FileLock
from scipy import stats

from rolegen_agent.artefacts import PROMOTED, fingerprint, latest
from rolegen_agent.evidence import Evidence
from rolegen_agent.evidence.states import STATES
from rolegen_agent.facade import RoleGen
from rolegen_agent.improve import run, trial
from rolegen_agent.outcomes import outcomes_of
from rolegen_agent.showing import read_weight, write_weight
from rolegen_backbone import fine_tuning
from rolegen_backbone.examples import Decision
from rolegen_backbone.features import POOL_FEATURES
from rolegen_errors import ProjectError
from tests.support.shop import AT, Line, users_at

LATER = "2011-11-01"
NOW, CUT = datetime(2011, 11, 1, tzinfo=UTC), datetime(2011, 9, 1, tzinfo=UTC)
SMALL: Mapping[str, Mapping[str, object]] = {
    "improve": {"returns": 150, "outcome": False, "tested_on": 80, "min_returned": 5, "margin_hits": 0.2},
}
MARKER = "ZEBRAMARKER"


def decide_and_report(folder: Path) -> None:
    """Decisions of September with what came of them, as a shop would have them in November."""
    with RoleGen.open(folder) as shop:
        users = users_at(folder, 12)
        made = shop.awaken(users, AT).run
        events = pl.read_parquet(shop.project.events)
        ids = {user: shop.trace(user, run=made).decision for user in users}
        shop.memory.record_outcomes(outcomes_of(events, ids, CUT, 90, CUT + timedelta(days=99)))


def contents(folder: Path) -> dict[str, str]:
    """Digest of every file of an artefact folder whose content is the same each time."""
    timed = {"manifest.json", PROMOTED}  # seconds that a computation took, and what memory is told of them
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in timed
    }


@pytest.fixture(scope="module")
def decided(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained project with decisions and outcomes in memory. Read it, or copy it."""
    folder = Path(shutil.copytree(trained, tmp_path_factory.mktemp("improve") / "shop"))
    decide_and_report(folder)
    return folder


@pytest.fixture(scope="module")
def improved(decided: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That project after an update that was not disturbed."""
    folder = Path(shutil.copytree(decided, tmp_path_factory.mktemp("improved") / "shop"))
    with RoleGen.open(folder, overrides=SMALL) as shop:
        report = shop.improve(LATER)
    assert report.verdict == "promoted", report.reason
    return folder


@pytest.fixture
def copied(decided: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(decided, tmp_path / "shop"))


@pytest.fixture
def again(improved: Path, tmp_path: Path) -> Iterator[RoleGen]:
    """The improved project, copied and opened."""
    with RoleGen.open(shutil.copytree(improved, tmp_path / "again"), overrides=SMALL) as shop:
        yield shop


def test_a_promoted_update_serves_later_decisions_and_no_earlier_ones(again: RoleGen, line: Line) -> None:
    [user] = users_at(again.project.root, 1)
    [promotion] = again.memory.promotions()
    assert promotion.verdict == "promoted" and promotion.at == NOW and CUT < promotion.held_from < NOW
    folder, as_of = latest(again.project, NOW)
    assert as_of == NOW and fingerprint(folder) == promotion.to_fingerprint
    assert latest(again.project, NOW - timedelta(days=1))[1] == CUT
    assert again.decide(user, "2011-12-01").at == NOW + timedelta(days=30)
    assert fingerprint(latest(again.project, CUT)[0]) == promotion.from_fingerprint
    assert promotion.figures["returned"] >= 5 and promotion.figures["decisions"] > promotion.figures["returned"]
    shown = line("improve", "--history", "--project", str(again.project.root))
    assert shown.returncode == 0 and "promoted" in shown.stdout and promotion.to_fingerprint in shown.stdout


def test_the_same_command_again_has_nothing_to_do_and_says_so(again: RoleGen) -> None:
    before = contents(again.project.store / "artefacts")
    report = again.improve(LATER)
    assert report.verdict == "nothing_new" and "know everything up to 2011-11-01" in report.reason
    assert contents(again.project.store / "artefacts") == before
    assert len(again.memory.promotions()) == 1
    assert not any((again.project.store / "improving").iterdir()), "nothing staged stays behind"


def test_a_training_replaces_a_promoted_update_only_by_force(again: RoleGen) -> None:
    before = contents(again.project.store / "artefacts")
    with pytest.raises(ProjectError, match="promoted by `rolegen improve`") as caught:
        again.train(LATER)
    assert "--force" in str(caught.value)
    assert contents(again.project.store / "artefacts") == before


def test_without_a_date_it_is_the_same_update_all_day(again: RoleGen, line: Line) -> None:
    events = pl.read_parquet(again.project.events)
    events.filter(pl.col("time") < NOW).write_parquet(again.project.events)
    told = [line("improve", "--json", "--project", str(again.project.root)).stdout for _ in range(2)]
    first, second = (datetime.fromisoformat(json.loads(one)["at"]) for one in told)
    assert (first.hour, first.minute, first.second, first.microsecond) == (0, 0, 0, 0)
    assert second - first in (timedelta(0), timedelta(days=1)), "midnight may have come in between"


def test_a_log_that_tells_nothing_new_is_no_update(again: RoleGen) -> None:
    events = pl.read_parquet(again.project.events)
    events.filter(pl.col("time") < NOW).write_parquet(again.project.events)
    report = again.improve("2012-01-01")
    assert report.verdict == "nothing_new" and "rolegen ingest" in report.reason


def test_effects_weigh_nothing_in_a_log_without_exposures(again: RoleGen) -> None:
    [promotion] = again.memory.promotions()
    told = promotion.figures["candidate"]["showing"]
    assert told["weight"] == 0 and "does not say what was shown" in told["reason"]
    folder, _ = latest(again.project, NOW)
    assert read_weight(folder) == 0 and again.assembly(NOW).artefacts.showing is None


def test_what_showing_brings_leads_slates_where_it_weighs(copied: Path) -> None:
    users = users_at(copied, 5)
    with RoleGen.open(copied) as shop:
        folder, _ = latest(shop.project, CUT)
        plain = [shop.decide(user, AT).slate_without_reasoning for user in users]
        item = [one.item for one in plain[0].items][-1]
    evidence = Evidence.load(folder / "evidence")
    told = {"item": item, "outcome": "order", "kind": "dr", "value": 0.2, "low": 0.1, "high": 0.3, "support": 99}
    rows = [{**dict.fromkeys(evidence.tables["effects"].columns, 0.0), **told, "state": state} for state in STATES]
    table = pl.DataFrame(rows, schema=evidence.tables["effects"].schema)
    replace(evidence, tables={**evidence.tables, "effects": table}).save(folder / "evidence")
    for weight in (0.0, 200.0):
        write_weight(folder, weight)
        with RoleGen.open(copied) as shop:
            found = [shop.decide(user, AT) for user in users]
            for before, now in zip(plain, found, strict=True):
                alone = now.slate_without_reasoning
                assert (alone.items[0].item == item) or not weight
                assert (alone.items == before.items) or weight
                assert now.slate.items[0].item == alone.items[0].item, "reasoning does not take the first place away"
                assert sum(alone.items[0].parts.values()) == pytest.approx(alone.items[0].score, abs=1e-6)


class Killed(BaseException):
    """As Ctrl-C or a kill would: nothing of ours catches it."""


def test_killed_at_any_stage_and_with_a_future_planted_it_ends_as_if_undisturbed(
    copied: Path, improved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant_a_future(copied)
    stops: list[tuple[str, Callable[..., Any]]] = [
        ("update", _once_after(run.update, 1)),
        ("trial", _once_after(run.trial, 1)),
        ("update", _once_after(run.update, 2)),
        ("_swap", _once_after(run._swap, 0)),
        ("_swap", _once_after(run._swap, 1)),
    ]
    for name, stop in stops:
        monkeypatch.setattr(run, name, stop)
        with pytest.raises(Killed), RoleGen.open(copied, overrides=SMALL) as shop:
            shop.improve(LATER)
        monkeypatch.undo()
        with RoleGen.open(copied, overrides=SMALL) as shop:
            swapped = stop is stops[-1][1]
            assert (latest(shop.project, NOW)[1] == NOW) == swapped, "what is staged serves nobody"
    with RoleGen.open(copied, overrides=SMALL) as shop:
        report = shop.improve(LATER)
        assert report.verdict == "nothing_new", "the update was in its place; only memory had not been told"
        [promotion] = shop.memory.promotions()
        folder, _ = latest(shop.project, NOW)
    with RoleGen.open(improved, overrides=SMALL) as undisturbed:
        [wanted] = undisturbed.memory.promotions()
        assert contents(folder) == contents(latest(undisturbed.project, NOW)[0])
    assert promotion == wanted
    assert MARKER not in "".join(file.read_text("utf-8", "ignore") for file in folder.rglob("*") if file.is_file())


def test_a_user_who_is_decided_on_often_counts_once() -> None:
    gap = np.random.default_rng(3).normal(0.01, 0.2, 40)
    once = trial._paired(gap, [str(user) for user in range(40)], 0.9)
    often = trial._paired(np.repeat(gap, 6), [str(user) for user in range(40) for _ in range(6)], 0.9)
    assert once == pytest.approx(often), "the same order, judged six times, is not six orders"
    bounds = stats.ttest_1samp(gap, 0.0).confidence_interval(0.8)
    assert (once["low"], once["high"]) == pytest.approx((bounds.low, bounds.high)), (
        "with one decision each: Student's t"
    )


def test_an_update_from_poisoned_outcomes_is_rolled_back_and_memory_says_so(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn_from, owned, rank = fine_tuning._returns, *map(POOL_FEATURES.index, ("owned", "rank_by_fading_times"))

    def poisoned(*arguments: Any) -> list[Decision]:
        """Everybody is said to have ordered what was least to be expected: the rarest of their own, and the least near."""
        found = []
        for one in learn_from(*arguments):
            fact = one.pool.feature
            rarest = int(np.argmax(np.where(fact[:, owned] > 0, fact[:, rank] + 1, 0)))
            found.append(replace(one, target=np.unique(one.pool.item[[rarest, -1]])))
        return found

    monkeypatch.setattr(fine_tuning, "_returns", poisoned)
    far = {"margin_hits": 0.0, "tested_on": 300, "epochs": 8, "rate": 1.0, "step": 1.0}
    poison = {"improve": {**SMALL["improve"], **far}}
    with RoleGen.open(copied, overrides=poison) as shop:
        before = contents(shop.project.store / "artefacts")
        report = shop.improve(LATER)
        assert report.verdict == "rolled_back" and "NDCG@10" in report.reason
        [promotion] = shop.memory.promotions()
        assert promotion.figures["ndcg10"]["high"] < 0, "it is surely worse"
        assert promotion.to_fingerprint == promotion.from_fingerprint == fingerprint(report.folder)
        assert contents(shop.project.store / "artefacts") == before and latest(shop.project, NOW)[1] == CUT
        repeated = shop.improve(LATER)
        assert repeated.verdict == "nothing_new" and "was rolled back" in repeated.reason
        assert len(shop.memory.promotions()) == 1


def test_two_at_once_do_not_meet(copied: Path) -> None:
    with RoleGen.open(copied) as shop:
        with FileLock(shop.project.store / "improve.lock"), pytest.raises(ProjectError, match="is under way"):
            shop.improve(LATER)
        assert shop.memory.promotions() == ()


def test_without_a_training_it_says_what_is_missing(copied: Path, line: Line) -> None:
    found = line("improve", "--at", "2011-01-01", "--project", str(copied))
    assert found.returncode == 1 and "rolegen train --at 2011-01-01" in found.stderr
    assert line("improve", "--history", "--project", str(copied)).stdout.startswith("no update yet")


def test_candidates_of_real_decisions_are_counted_by_reasoner(again: RoleGen) -> None:
    [promotion] = again.memory.promotions()
    final = promotion.figures["final"]
    left_out, learnt = sum(final["left_out"].values()), sum(final["learnt_from"].values())
    assert final["outcomes"] == left_out + learnt > 0
    assert set(final["learnt_from"]) <= {"evidence"}
    assert promotion.figures["candidate"]["outcomes"] <= final["outcomes"]
    assert json.dumps(promotion.figures)


def _once_after(wrapped: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """``wrapped``, killed after so many calls of it have ended; with 0, before the first."""
    left = calls

    def stopping(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        if not calls:
            raise Killed
        found = wrapped(*arguments, **more)
        left -= 1
        if not left:
            raise Killed
        return found

    return stopping


def _plant_a_future(folder: Path) -> None:
    """Events at and after the time of the update, on items that nobody knew before, and an outcome that came then."""
    with RoleGen.open(folder) as shop:
        events, items = pl.read_parquet(shop.project.events), pl.read_parquet(shop.project.items)
        late = events.tail(500).with_columns(
            time=pl.lit(NOW).cast(events.schema["time"]) + pl.duration(minutes=pl.int_range(pl.len())),
            item=pl.lit(MARKER),
            price=pl.lit(9_999.0),
            event=pl.int_range(pl.len()) + int(events["event"].max()) + 1,  # type: ignore[arg-type]
        )
        kept = events.filter(pl.col("time") < NOW)
        pl.concat([kept, late.select(kept.columns).cast(kept.schema)]).write_parquet(shop.project.events)  # type: ignore[arg-type]
        row = items.head(1).with_columns(
            item=pl.lit(MARKER), title=pl.lit(MARKER), first_seen=pl.lit(NOW).cast(items.schema["first_seen"])
        )
        pl.concat([items, row.cast(items.schema)]).sort("item").write_parquet(shop.project.items)  # type: ignore[arg-type]
        some = next(iter(shop.memory.experiences(NOW)))
        later = some.outcome.model_copy(update={"ordered_at": NOW + timedelta(days=3), "items": (MARKER,)})
        unknown = [one for one in users_at(folder, 13) if one != some.user][-1]
        decision = shop.decide(unknown, AT)
        shop.memory.record_outcome(later.model_copy(update={"decision": decision.decision, "user": unknown}))
