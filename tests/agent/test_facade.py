"""RoleGen from Python on a small real shop: decide, stream, remember, and know nothing of what comes after the date."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import re
import shutil
import weakref
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import rolegen_prompts
from rolegen_agent import artefacts, facade
from rolegen_agent.facade import RoleGen
from rolegen_errors import FutureError, InputError, ProjectError
from rolegen_graphs.words import Decision
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, LOG, users_at

MARKER = "ZEBRAMARKER"


def test_a_decision_is_remembered_and_read_back_as_it_was(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    decision = shop.decide(user, AT)
    assert shop.trace(user) == decision
    assert decision.at == datetime(2011, 9, 1, tzinfo=UTC) and decision.reasoner == "evidence"
    assert len(decision.slate.items) == 10
    assert all(event.at < decision.at for event in decision.observation.trajectory.events)


def test_the_slate_holds_items_of_the_catalogue_that_were_sold_before(shop: RoleGen) -> None:
    users = users_at(shop.project.root, 8)
    shop.awaken(users, AT)
    known = pl.read_parquet(shop.project.items).filter(pl.col("first_seen") < datetime(2011, 9, 1, tzinfo=UTC))
    titles = dict(known.select("item", "title").iter_rows())
    for user in users:
        alone = shop.trace(user).slate_without_reasoning
        for slate in (shop.trace(user).slate, alone):
            assert [item.rank for item in slate.items] == list(range(1, 11))
            assert len({item.item for item in slate.items}) == 10
            assert all(titles[item.item] == item.title for item in slate.items)
            scores = [item.score for item in slate.items]
            assert 0 < sum(scores) <= 1
            # What only reasoning brought in waits for the lower half, however probable it is said to be.
            upper = scores if slate is alone else scores[:5]
            assert upper == sorted(upper, reverse=True)


def test_decisions_side_by_side_have_one_thread_each(shop: RoleGen) -> None:
    """Torch's and every BLAS's: a second thread of either waits by counting, at the price of the decision beside it."""
    before = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        try:
            torch.set_num_threads(2)
            shop.decide(*users_at(shop.project.root, 1), AT)
            blas = [one for one in threadpool_info() if one["user_api"] == "blas"]
            assert blas and {one["num_threads"] for one in blas} == {1} and torch.get_num_threads() == 1
        finally:
            torch.set_num_threads(before)


def test_diversity_keeps_the_first_place_and_changes_no_score(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = users_at(project, 24)
    slates = []
    for weight in ("0", "0.63"):
        monkeypatch.setenv("ROLEGEN_SLATE__DIVERSITY", weight)
        with RoleGen.open(project) as shop:
            slates.append([shop.decide(user, AT).slate_without_reasoning for user in users])
    plain, varied = slates
    for before, after in zip(plain, varied, strict=True):
        scores = [item.score for item in before.items]
        assert scores == sorted(scores, reverse=True)
        assert after.items[0] == before.items[0]
        assert after.entropy == pytest.approx(before.entropy, abs=0.2), "it speaks of the model, not of the slate"
        kept = {item.item: item for item in before.items}
        for item in after.items:
            assert sum(item.parts.values()) == pytest.approx(item.score, abs=1e-6)
            if item.item in kept:
                assert item.score == pytest.approx(kept[item.item].score, abs=1e-6)
    kinds = [sum(len({item.category for item in slate.items}) for slate in some) for some in (plain, varied)]
    shown = [len({item.item for slate in some for item in slate.items}) for some in (plain, varied)]
    assert kinds[1] > 1.05 * kinds[0] and shown[1] > 1.05 * shown[0]


async def test_it_decides_and_streams_in_a_running_event_loop(shop: RoleGen) -> None:
    first, second = users_at(shop.project.root, 2)
    beats = 0

    async def heart() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0)
            beats += 1

    beating = asyncio.create_task(heart())
    decision, other = await asyncio.gather(shop.adecide(first, AT), shop.adecide(second, AT))
    nodes = [node async for step in shop.astream(first, AT) for node in step]
    last = [state async for state in shop.astream(first, AT, mode="values")][-1]
    beating.cancel()
    assert (decision.user, other.user) == (first, second)
    assert nodes[0] == "observe" and nodes[-1] == "reflect"
    assert last["decision"] == decision == shop.decide(first, AT)
    assert beats > 3, "the event loop went on while the decision was made"


def test_streaming_shows_each_node(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    nodes = [node for step in shop.stream(user, AT) for node in step]
    assert nodes[:7] == ["observe", "reason", "simulate", "ground", "execute", "feedback", "reflect"]


def test_the_trace_of_an_unknown_user_says_what_to_do(shop: RoleGen) -> None:
    with pytest.raises(InputError, match="there is no decision on user 'nobody'") as caught:
        shop.trace("nobody")
    assert "rolegen awaken" in str(caught.value)


def test_a_user_without_a_past_is_an_input_error(shop: RoleGen) -> None:
    with pytest.raises(InputError, match="'nobody' is not in the log"):
        shop.decide("nobody", AT)


def test_a_time_without_zone_is_refused(shop: RoleGen) -> None:
    with pytest.raises(InputError, match="no time zone"):
        shop.decide("12350", datetime(2011, 9, 1))


def test_a_date_before_every_training_says_which_training_is_missing(shop: RoleGen) -> None:
    with pytest.raises(ProjectError, match="nothing was trained on the time before 2011-08-01") as caught:
        shop.decide("12350", "2011-08-01")
    assert "rolegen train --at 2011-08-01" in str(caught.value)


def test_the_graph_of_one_time_serves_no_other_time_that_knows_more_or_less(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    graph = shop.graph(AT).compile()
    with pytest.raises(FutureError, match="trained on events up to 2011-09-01"):
        graph.invoke({"user": user, "at": "2011-06-01T00:00:00+00:00"})
    with pytest.raises(InputError, match="the log was read up to 2011-09-01"):
        graph.invoke({"user": user, "at": "2011-10-01T00:00:00+00:00"})
    assert shop.decide(user, "2011-10-01").at == datetime(2011, 10, 1, tzinfo=UTC), "its own graph knows September"


def test_two_programs_share_one_memory(project: Path) -> None:
    users = users_at(project, 6)
    with RoleGen.open(project) as one, RoleGen.open(project) as two:
        one.awaken(users[:4], AT)
        report = two.awaken(users, AT)
        assert (report.earlier, report.decided) == (4, 2)
        assert one.trace(users[5]) == two.trace(users[5])


def test_a_closed_project_can_be_used_again(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    decision = shop.decide(user, AT)
    shop.close()
    assert shop.trace(user) == decision


def test_a_finished_training_is_not_repeated_even_after_another_ingestion(shop: RoleGen) -> None:
    stages: list[str] = []
    shop.ingest()
    folder = shop.train(AT, progress=lambda stage, done, total: stages.append(stage))
    assert stages == []
    assert (folder / "backbone" / "backbone.json").is_file()
    assert [artefact.kind for artefact in shop.memory.artefacts()] == ["backbone"]


def test_a_changed_prompt_is_another_run(shop: RoleGen, project: Path) -> None:
    newest = max((Path(rolegen_prompts.__file__).parent / "packs" / "default" / "reason").glob("*.md"))
    own = project / "prompts" / "reason"
    own.mkdir(parents=True)
    (own / newest.name).write_text(newest.read_text("utf-8"), "utf-8")
    names = []
    with ScriptedLlm() as server:
        for change in ("", "\nBe brief.\n"):
            with (own / newest.name).open("a", encoding="utf-8") as file:
                file.write(change)
            overrides = {
                "reasoner": {"kind": "llm", "prompts": "prompts"},
                "llm": {"model": "scripted", "base_url": server.url},
            }
            with RoleGen.open(project, overrides=overrides) as shop:
                names.append(shop.assembly(AT).settings.run)
    assert names[0] != names[1]


# -- no leak -----------------------------------------------------------------------------------------------------------


def plant(folder: Path, users: list[str]) -> None:
    """Into the log, at and after the decision: an item, its sales, another title of an old item, and another customer."""
    log = pl.read_parquet(folder / LOG)
    bought = log.filter(pl.col("InvoiceDate") < datetime(2011, 9, 1), pl.col("CustomerID") == int(users[0]))
    old, rows = bought.row(0, named=True)["StockCode"], []
    for number in range(600):
        at = datetime(2011, 9, 1, 1) + timedelta(hours=number % 200)  # in London; the first is midnight UTC
        customer = int(users[number % len(users)]) if number % 3 else 99_990
        rows.append(
            {
                "InvoiceNo": f"{700_000 + number}",
                "StockCode": "99901" if number % 2 else old,
                "Description": f"{MARKER} SET OF {number % 7}",
                "Quantity": 50,
                "InvoiceDate": at,
                "UnitPrice": 0.01,
                "CustomerID": customer,
                "Country": MARKER,
            }
        )
    pl.concat([log, pl.DataFrame(rows, schema=log.schema)]).write_parquet(folder / LOG)


def think(folder: Path, users: list[str], server: ScriptedLlm) -> list[str]:
    """Decisions with an LLM; returns the requests' messages in a stable order."""
    overrides = {
        "reasoner": {"kind": "llm", "think": "always"},
        "llm": {"model": "scripted", "base_url": server.url},
    }
    begin = len(server.chats)
    with RoleGen.open(folder, overrides=overrides) as shop:
        assert shop.awaken(users, AT).calls > 0
    return sorted(json.dumps(asked.body["messages"]) for asked in server.chats[begin:])


def plain(decision: Decision) -> object:
    """The decision without what names it: ids of run and decision, and the number that the ingestion gave each event,
    which counts the rows of the users before this one."""
    first = decision.observation.trajectory.events[0].event

    def renumbered(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: renumbered(one, name) for name, one in value.items()}
        if isinstance(value, list):
            return [renumbered(one, key) for one in value]
        return value - first if key in ("event", "evidence", "replaces") and value is not None else value

    return renumbered(decision.model_dump(mode="json", exclude={"decision", "run"}))


@pytest.mark.slow
def test_nothing_from_the_decision_date_on_reaches_decision_prompt_or_artefact(trained: Path, tmp_path: Path) -> None:
    users = list(users_at(trained, 24))
    as_it_was = Path(shutil.copytree(trained, tmp_path / "before"))
    planted = Path(shutil.copytree(trained, tmp_path / "after"))
    plant(planted, users)
    with RoleGen.open(planted) as shop:
        assert shop.ingest().kept > 73_611  # the marker is in the store
        assert MARKER in pl.read_parquet(shop.project.items)["title"].str.join("\n").item()
        torch.set_num_threads(1)  # as the training that it is compared with
        folder = shop.train(AT, force=True)
        assert list(shop.dormant(AT)["user"].head(24)) == users
        shop.awaken(users, AT)
        marked = [shop.trace(user) for user in users]
    with RoleGen.open(as_it_was) as shop:
        shop.awaken(users, AT)
        clean = [shop.trace(user) for user in users]
    assert [plain(decision) for decision in marked] == [plain(decision) for decision in clean]
    assert MARKER not in "".join(decision.model_dump_json() for decision in marked)

    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.name != "wanted.txt":  # the fingerprint of all input
            twin = as_it_was / ".rolegen" / "artefacts" / file.relative_to(folder.parent)
            assert _digest(file) == _digest(twin), f"{file.name} changed with the future"

    with ScriptedLlm() as server:
        asked = think(planted, users[:1], server)  # of the first user even the numbers of the events are the same
        assert asked == think(as_it_was, users[:1], server)
        asked += think(planted, users[1:6], server)
    assert len(asked) >= 12 and MARKER not in "".join(asked)


def _digest(file: Path) -> str:
    took = re.compile(rb'"seconds": [0-9.]+')  # how long it took is no news from the future
    return hashlib.sha256(took.sub(b"", file.read_bytes())).hexdigest()


def test_items_that_appeared_after_the_training_can_be_reasoned_about_and_shown(project: Path) -> None:
    """A hundred customers buy a new thing in September; the training of September 1st knows nothing of it."""
    log = pl.read_parquet(project / "log.parquet")
    september = log.filter(pl.col("InvoiceDate") >= datetime(2011, 9, 1)).head(1)
    users = log["CustomerID"].drop_nulls().unique().sort().head(100)
    new = pl.concat([september.with_columns(CustomerID=pl.lit(user, log.schema["CustomerID"])) for user in users])
    new = new.with_columns(
        StockCode=pl.lit("99999"),
        Description=pl.lit("BRAND NEW GARDEN LANTERN"),
        InvoiceDate=pl.lit(datetime(2011, 9, 20, 12), log.schema["InvoiceDate"]),
        InvoiceNo=pl.Series([f"8{number:05d}" for number in range(100)], dtype=log.schema["InvoiceNo"]),
    )
    pl.concat([log, new]).write_parquet(project / "log.parquet")
    with RoleGen.open(project) as shop:
        shop.ingest()
        found = artefacts.load(shop.project, datetime(2011, 10, 1, tzinfo=UTC))
        assert found.as_of == datetime(2011, 9, 1, tzinfo=UTC)
        row = found.items.row(by_predicate=pl.col("item") == "99999", named=True)
        assert row["category"] in set(found.items.filter(pl.col("item") != "99999")["category"])
        shown = [item.item for user in users_at(project, 24) for item in shop.decide(user, "2011-10-01").slate.items]
    assert "99999" in shown


def test_a_server_that_decides_for_weeks_keeps_the_parts_of_few_days(
    shop: RoleGen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facade, "KEPT_DATES", 1)
    first = weakref.ref(shop.assembly("2011-09-01"))
    second = shop.assembly("2011-09-02")
    gc.collect()
    assert first() is None and shop.assembly("2011-09-02") is second
