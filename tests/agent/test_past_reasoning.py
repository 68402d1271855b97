"""What is said of past decisions knows nothing of what came of them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from rolegen_agent.artefacts import known_items
from rolegen_agent.backbone_tool import make_hint
from rolegen_agent.facade import RoleGen
from rolegen_agent.past_reasoning import PastReasoning, cuts_before
from rolegen_backbone.events import DAY, EventLog
from rolegen_graphs.words import ROLES, Intent, Role, RoleLabel

CUT = datetime(2011, 6, 1, tzinfo=UTC)


def label(event: int, role: Role, confidence: float) -> RoleLabel:
    idle = Intent(stage="none")
    return RoleLabel(event=event, item="cup", role=role, confidence=confidence, intent_before=idle, intent_after=idle)


def test_the_surest_roles_come_first_and_those_that_tell_nothing_not_at_all() -> None:
    labels = [
        label(4, "trigger", 0.6),
        label(7, "unresolved", 1.0),
        label(9, "target", 0.9),
        label(5, "incidental", 1.0),
    ]
    hint = make_hint((), {}, labels)
    assert hint.event.tolist() == [9, 4]
    assert hint.event_role.tolist() == [ROLES.index("target"), ROLES.index("trigger")]
    assert not len(hint.item)


def test_cuts_lie_a_quarter_apart_and_end_at_the_last() -> None:
    cuts = cuts_before(CUT)
    assert cuts[-1] == CUT and cuts == sorted(cuts)
    assert {after - before for before, after in itertools.pairwise(cuts)} == {timedelta(days=91)}


def test_a_decision_is_read_with_evidence_before_it_or_not_at_all(shop: RoleGen) -> None:
    items = known_items(shop.project, datetime(2011, 9, 1, tzinfo=UTC))
    events = pl.read_parquet(shop.project.events).filter(pl.col("time") < datetime(2011, 9, 1, tzinfo=UTC))
    ids = items["item"].to_numpy().astype(str)

    def told(rows: pl.DataFrame) -> list[tuple[list[int], list[int], list[int]]]:
        rows = rows.filter(pl.col("item").is_in(items["item"].implode()))
        log = EventLog.from_frame(rows, ids)
        cuts = [CUT - timedelta(days=91), CUT]
        past = PastReasoning(shop.project.settings, rows, items, log, cuts=cuts, progress=lambda *_: None)
        users = [str(user) for user in np.random.default_rng(0).choice(sorted(early), 12, replace=False)]
        days = [CUT - timedelta(days=days) for days in (120, 91, 30, 0)]
        asked = [(log.user_index(user) or 0, int(at.timestamp()) // DAY * DAY) for user in users for at in days]
        hints = past.candidates(asked)
        assert not any(len(hint.event) for hint in hints[::4]), "nobody had counted anything by then"
        assert any(len(hint.event) for hint in hints) and any(len(hint.item) for hint in hints)
        alone = past.roles(asked)
        assert [hint.event.tolist() for hint in alone] == [hint.event.tolist() for hint in hints]
        return [(hint.item.tolist(), hint.event.tolist(), hint.event_role.tolist()) for hint in hints]

    early = set(events.filter(pl.col("time") < CUT - timedelta(days=121))["user"])
    before = events.filter(pl.col("time") < CUT)
    assert told(events) == told(before), "June, July and August change nothing that was said until the first of June"


@pytest.mark.parametrize("days", [0, 1])
def test_a_cut_is_no_later_than_the_decision(shop: RoleGen, days: int) -> None:
    items = known_items(shop.project, CUT)
    events = pl.read_parquet(shop.project.events).filter(pl.col("time") < CUT)
    events = events.filter(pl.col("item").is_in(items["item"].implode()))
    log = EventLog.from_frame(events, items["item"].to_numpy().astype(str))
    cut = CUT - timedelta(days=30)
    past = PastReasoning(shop.project.settings, events, items, log, cuts=[cut], progress=lambda *_: None)
    user = int(log.user[np.flatnonzero(log.time < (cut - timedelta(days=60)).timestamp())][0])
    [hint] = past.roles([(user, int((cut - timedelta(days=days)).timestamp()))])
    assert bool(len(hint.event)) == (days == 0)
