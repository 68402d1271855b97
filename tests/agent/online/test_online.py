"""Slates for whoever asks now: where they come from, what they have seen, and what they never see."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rolegen_agent.backbone_tool import Asked
from rolegen_agent.facade import RoleGen
from rolegen_agent.memory import decision_id
from rolegen_agent.online import Online, SlateWanted
from rolegen_backbone.since import Told
from rolegen_errors import BusyError, InputError, ProjectError
from rolegen_graphs.guard import guarded
from tests.support.shop import AT

from .conftest import NOW, Decided, wait_for

MORNING = datetime(2011, 9, 1, 9, tzinfo=UTC)


def order(item: str, time: datetime | None = None, **more: Any) -> dict[str, Any]:
    return {"item": item, "behaviour": "order", **({"time": time} if time else {}), **more}


def items_of(answer: Any) -> list[str]:
    return [one.item for one in answer.items]


def test_a_remembered_slate_is_the_decision_s_own(online: Online, decided: Decided) -> None:
    with RoleGen.open(decided.folder) as shop:
        traces = {user: shop.trace(user) for user in decided.users}
    assert any(one.role for trace in traces.values() for one in trace.slate.items), "no slate has a reason to tell"
    for user, trace in traces.items():
        answer = online.slate(user)
        assert (answer.source, answer.decision, answer.reasoner) == ("remembered", trace.decision, trace.reasoner)
        assert [(one.item, one.role, one.path) for one in answer.items] == [
            (one.item, one.role, one.path) for one in trace.slate.items
        ]
        whys = {path.path: path.why for path in trace.rounds[-1].paths}
        assert [one.why for one in answer.items if one.path is not None] == [
            whys[one.path] for one in trace.slate.items if one.path is not None
        ]
        shorter = online.slate(user, size=4)
        assert (shorter.source, items_of(shorter)) == ("remembered", items_of(answer)[:4])


def test_what_is_ranked_anew_is_what_the_loop_would_rank(online: Online, decided: Decided) -> None:
    """Nothing happened, so the same candidates, ranked again, give the very slate that the loop had decided on."""
    standing, _ = online.memory.standing(decided.users, online.clock())
    with RoleGen.open(decided.folder) as shop:
        for user in decided.users:
            one, told = standing[user], Told.nothing(user)
            asked = [Asked(told=told, candidates=one.candidates, labels=one.labels), Asked(told=told)]
            reasoned, alone = online.day.slates("", asked, 10)
            trace = shop.trace(user)
            slate = guarded(reasoned, alone, shop.project.settings.slate.newcomers) if one.candidates else alone
            assert [(at.item, at.role, at.path) for at in slate.items] == [
                (at.item, at.role, at.path) for at in trace.slate.items
            ]
            assert [at.score for at in slate.items] == pytest.approx([at.score for at in trace.slate.items], rel=1e-4)
            assert [at.item for at in alone.items] == [at.item for at in trace.slate_without_reasoning.items]


def test_who_has_no_decision_gets_the_backbone_alone_and_a_stranger_what_sells(
    online: Online, decided: Decided
) -> None:
    user = decided.others[0]
    answer = online.slate(user)
    assert (answer.source, answer.decision, answer.reasoner) == ("backbone", None, None)
    with RoleGen.open(decided.folder) as shop:
        alone = shop.assembly(AT).parts.recommender.slate(user, datetime(2011, 9, 1, tzinfo=UTC), (), 10)
    assert items_of(answer) == [one.item for one in alone.items]
    stranger = online.slate("nobody knows me")
    assert stranger.source == "popular"
    assert len(items_of(stranger)) == 10
    assert all(one.probability is None for one in stranger.items)
    # Once a stranger has done something, the backbone has something to go on.
    bought = stranger.items[0].item
    told = online.slate("nobody knows me", events=[order(bought)])
    assert (told.source, told.events_seen) == ("backbone", 1)


def test_what_happened_since_ranks_the_candidates_again(online: Online, decided: Decided) -> None:
    user = decided.users[0]
    before = online.slate(user)
    bought = next(one.item for one in online.slate("nobody").items if one.item not in items_of(before))
    after = online.slate(user, events=[order(bought)])
    assert (after.source, after.decision, after.events_seen) == ("reranked", before.decision, 1)
    assert [one.probability for one in after.items] != [one.probability for one in before.items]
    assert bought not in items_of(after), "it was bought a second ago"
    assert online.slate(user).source == "remembered", "what came with a request is not kept"
    report = online.tell([{"user": user, **order(bought, MORNING)}])
    assert (report.recorded, report.refused) == (1, 0)
    kept = online.slate(user)
    assert (kept.source, kept.events_seen) == ("reranked", 1)
    everybody = [online.slate(one, events=[order(bought)]) for one in decided.users]
    assert any(one.role for slate in everybody for one in slate.items), "candidates keep their roles"


def test_who_is_not_ranked_in_time_gets_what_is_remembered_and_the_ranking_later(copied: Decided) -> None:
    user = copied.users[0]
    hasty = {"serve": {"patience_ms": 1e-6}}
    with RoleGen.open(copied.folder, overrides=hasty) as shop, shop.online(NOW) as online:
        before = online.slate(user)
        gone = before.items[0].item
        late = online.slate(user, exclude=[gone])
        assert (late.source, late.late, late.decision) == ("remembered", True, before.decision)
        assert items_of(late)[:9] == items_of(before)[1:] and len(set(items_of(late))) == 10
        assert [one.rank for one in late.items] == [*range(1, 11)]
        assert asyncio.run(online.aslate(SlateWanted(user=user, events=[order(gone)]))).late
        stranger = online.slate("nobody knows me", events=[order(gone)])
        assert (stranger.source, stranger.late, stranger.events_seen) == ("popular", True, 0)
        assert gone not in items_of(stranger)
        wait_for(lambda: not online.slate(user, exclude=[gone]).late)
        assert online.slate(user, exclude=[gone]).source == "reranked"
        assert "rolegen_late_total" in online.figures.text().decode()


def test_of_whom_something_is_told_the_slate_is_ready_before_they_ask(copied: Decided) -> None:
    user = copied.users[1]
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as patient:
        patient.tell([{"user": user, **order(patient.slate(user).items[0].item, MORNING)}])
        expected = patient.slate(user)
    hasty = {"serve": {"patience_ms": 1e-6}}  # whoever waits at all is late
    with RoleGen.open(copied.folder, overrides=hasty) as shop, shop.online(NOW) as online:
        row = {"user": copied.users[2], **order(online.slate(copied.users[2]).items[0].item, MORNING)}
        assert online.tell([row]).recorded == 1

        def ranked() -> bool:  # without asking: a late answer would have its slate ranked too
            known = online._users.find(copied.users[2], online.clock())
            return known is not None and len(known.slates) > 0

        wait_for(ranked)
        answer = online.slate(copied.users[2])
        assert (answer.source, answer.late, answer.events_seen) == ("reranked", False, 1)
        assert row["item"] not in items_of(answer)
        wait_for(lambda: not online.slate(user).late)
        assert items_of(online.slate(user)) == items_of(expected)


def test_items_that_may_not_be_shown_are_not(online: Online, decided: Decided) -> None:
    user = decided.users[1]
    first = items_of(online.slate(user))
    answer = online.slate(user, exclude=first[:3])
    assert answer.source == "reranked"
    assert not {*first[:3]} & {*items_of(answer)}
    assert len(answer.items) == 10
    sellers = items_of(online.slate("nobody"))
    assert items_of(online.slate("nobody", exclude=sellers[:2], size=8)) == sellers[2:]


def test_an_item_that_went_out_of_stock_is_not_shown(copied: Decided) -> None:
    with RoleGen.open(copied.folder) as shop:
        traces = {user: [one.item for one in shop.trace(user).slate.items] for user in copied.users}
    strict = {"data": {"stock_days": 3}}
    with RoleGen.open(copied.folder, overrides=strict) as shop, shop.online(NOW) as online:
        assert any(not online.day.can_show(item) for items in traces.values() for item in items)
        for user, items in traces.items():
            answer = online.slate(user)
            assert answer.source == ("remembered" if all(map(online.day.can_show, items)) else "reranked")
            assert all(online.day.can_show(one.item) for one in answer.items)


def test_nothing_of_the_future_serves_a_request(online: Online, decided: Decided) -> None:
    user, noon = decided.users[2], datetime(2011, 9, 1, 12, tzinfo=UTC)
    before = online.slate(user, at=noon)
    bought = online.slate("nobody").items[-1].item
    online.tell([{"user": user, **order(bought, noon)}])  # at the very time is not before it
    assert online.slate(user, at=noon) == before
    assert online.slate(user).events_seen == 0, "it is ten o'clock"
    after = online.slate(user, at=noon + timedelta(seconds=1))
    assert (after.source, after.events_seen) == ("reranked", 1)
    # A decision of the afternoon, made already, serves the afternoon.
    with RoleGen.open(decided.folder) as shop:
        trace = shop.trace(user)
    later = trace.model_copy(
        update={
            "at": noon + timedelta(hours=2),
            "run": "later",
            "decision": decision_id("later", user, noon + timedelta(hours=2)),
            "observation": trace.observation.model_copy(
                update={"trajectory": trace.observation.trajectory.model_copy(update={"at": noon + timedelta(hours=2)})}
            ),
        }
    )
    online.memory.record(later)
    assert online.slate(user, at=noon + timedelta(hours=1)).decision == trace.decision
    assert online.slate(user, at=noon + timedelta(hours=3)).decision == later.decision
    with pytest.raises(InputError, match="the log is served up to"):
        online.slate(user, at=datetime(2011, 8, 31, 23, tzinfo=UTC))
    with pytest.raises(InputError, match="not before the request"):
        online.slate(user, at=noon, events=[order(bought, noon)])


def test_a_decision_whose_horizon_is_over_does_not_stand(copied: Decided) -> None:
    with RoleGen.open(copied.folder) as shop, shop.online("2011-11-30T10:00:00+00:00") as online:
        answer = online.slate(copied.users[0])
        assert (answer.source, answer.decision) == ("backbone", None)


def test_events_are_looked_at_one_by_one(online: Online, decided: Decided) -> None:
    user = decided.users[3]
    known = online.slate(user).items[0].item
    good = {"user": user, **order(known, MORNING)}
    rows: list[Any] = [
        good,
        good,  # twice in one call
        {**good, "time": MORNING + timedelta(minutes=1), "id": "e1"},
        {**good, "time": "2011-06-01T00:00:00Z"},  # the log reaches beyond it
        {**good, "time": MORNING + timedelta(hours=5)},  # not yet
        {**good, "item": "no such thing", "behaviour": "view"},
        {**good, "behaviour": "view", "time": MORNING + timedelta(minutes=2)},
        {"user": user},
        {**good, "time": "2011-09-01T09:00:00"},  # no zone
        {**good, "time": "2011-09-09T09:00:00Z"},  # a week ahead of the clock
        {**good, "behaviour": "steal"},
        {**good, "quantity": float("nan")},
        {**good, "quantity": 0},
        {**good, "user": "a\x00b"},
        {**good, "user": "\ud800"},
        {**good, "more": 1},
        "not a row",
        None,
        [good],
    ]
    report = online.tell(rows)
    assert (report.rows, report.recorded, report.known, report.refused) == (19, 6, 1, 12)
    assert (report.late, report.ahead) == (1, 1)
    assert report.unknown_items == ["no such thing"]
    assert [one.row for one in report.refusals] == list(range(7, 19))
    assert "timezone" in report.refusals[1].why
    assert "a day ahead" in report.refusals[2].why
    again = online.tell(rows)
    assert (again.recorded, again.known) == (0, 7)
    answer = online.slate(user)
    # Seen: 9:00 and 9:01. Not understood: an unknown item, and a view, which no event of this log is.
    assert (answer.events_seen, answer.events_unseen) == (2, 2)
    assert online.health().unknown_items == {"no such thing": 2}
    text = online.figures.text().decode()
    assert 'rolegen_events_total{fate="refused"} 24.0' in text


def test_another_server_s_events_and_new_decisions_are_picked_up(copied: Decided) -> None:
    user, other = copied.users[0], copied.others[1]
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as one, shop.online(NOW) as two:
        assert one.slate(user).events_seen == two.slate(user).events_seen == 0
        one.tell([{"user": user, **order(one.slate(user).items[0].item, MORNING)}])
        assert one.slate(user).events_seen == 1
        wait_for(lambda: two.slate(user).events_seen == 1)
        assert two.slate(other).source == "backbone"
        shop.awaken([other], AT)
        wait_for(lambda: two.slate(other).source == "remembered")
        # Who is erased is forgotten by servers that run.
        shop.erase(user)
        wait_for(lambda: (two.slate(user).source, two.slate(user).events_seen) == ("backbone", 0))
        assert list(shop.verify()) == []


def test_a_new_day_and_new_artefacts_are_picked_up(copied: Decided) -> None:
    from rolegen_agent.artefacts import fingerprint, latest
    from rolegen_agent.showing import write_weight

    with RoleGen.open(copied.folder) as shop, shop.online("2011-09-01T23:59:57+00:00") as online:
        day = online.health().day
        wait_for(lambda: online.health().day == day + timedelta(days=1))
        answer = online.slate(copied.users[0])
        assert (answer.source, answer.at.day) == ("remembered", 2), "nothing happened, and the decision still stands"
        folder, _ = latest(shop.project, day)
        write_weight(folder, 0.0)
        wait_for(lambda: online.health().model == fingerprint(folder))
        # What cannot be loaded is said, and the day before goes on.
        (folder / "backbone" / "backbone.safetensors").write_bytes(b"half of it")
        (folder / "backbone" / "backbone.json").touch()
        wait_for(lambda: online.health().status == "degraded")
        assert "artefacts: what is new cannot be served" in online.health().faults[0]
        assert online.slate(copied.users[0]).source == "remembered"


def test_a_slate_that_is_shown_stands_beside_its_decision(copied: Decided) -> None:
    user = copied.users[0]
    with RoleGen.open(copied.folder) as shop:
        with shop.online(NOW) as online:
            first = online.slate(user)
            answer = online.slate(user, exclude=[first.items[0].item], shown=True)
            online.slate("nobody", shown=True)
        assert answer.decision is not None
        kept = shop.memory.slate(answer.decision, "served")
        assert [one.item for one in kept.items] == items_of(answer)
        assert list(shop.verify()) == []


def test_drawn_slates_keep_their_probabilities(copied: Decided) -> None:
    from rolegen_graphs.exploration import redrawn

    with RoleGen.open(copied.folder, overrides={"slate": {"explore": 0.5}}) as shop:
        shop.awaken(copied.users[:1], AT)
        user = copied.users[0]
        with shop.online(NOW) as online:
            remembered = online.slate(user)
            assert remembered.decision == shop.trace(user).decision
            assert all(one.propensity for one in remembered.items)
            answer = online.slate(user, exclude=[remembered.items[0].item], shown=True)
            assert answer.source == "reranked"
        assert answer.decision is not None
        kept = shop.memory.slate(answer.decision, "served")
        assert redrawn(kept) == pytest.approx([one.propensity for one in answer.items])


def test_more_than_can_be_answered_is_refused_at_once(copied: Decided) -> None:
    async def everybody(online: Online) -> list[Any]:
        wanted = [SlateWanted(user=user, exclude=[str(n)]) for n in range(4) for user in copied.others]
        return await asyncio.gather(*(online.aslate(one) for one in wanted), return_exceptions=True)

    narrow = {"serve": {"queue": 3}}
    with RoleGen.open(copied.folder, overrides=narrow) as shop, shop.online(NOW) as online:
        found = asyncio.run(everybody(online))
        busy = [one for one in found if isinstance(one, BusyError)]
        assert len(busy) == len(found) - 3
        assert all(one.source == "backbone" for one in found if one not in busy)
        assert online.health().waiting == 0
        assert f'rolegen_refused_total{{why="busy"}} {len(busy)}.0' in online.figures.text().decode()
        assert online.slate(copied.users[0]).source == "remembered"


def test_a_bad_question_costs_no_other_its_answer(online: Online, decided: Decided) -> None:
    bad = online._batcher.submit((online.day, "", 10), [Asked(told=Told.nothing("nobody"))])
    good = online._batcher.submit((online.day, "", 10), [Asked(told=Told.nothing(decided.users[0]))])
    assert len(good.result()[0].items) == 10
    with pytest.raises(InputError, match="no event"):
        bad.result()


def test_what_cannot_be_served_is_said_before_the_first_request(copied: Decided) -> None:
    with RoleGen.open(copied.folder) as shop, pytest.raises(ProjectError, match="nothing was trained"):
        shop.online("2010-01-01")
    own = {"parts": {"own": "examples.own_parts:parts"}}
    with RoleGen.open(copied.folder, overrides=own) as shop, pytest.raises(ProjectError, match="parts"):
        shop.online(NOW)
    with RoleGen.open(copied.folder) as shop, shop.online(NOW) as online:
        with pytest.raises(InputError, match="not understood"):
            online.slate("")
        with pytest.raises(InputError, match="not understood"):
            online.slate("7", size=1000)
