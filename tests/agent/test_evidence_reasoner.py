"""The reasoner without an LLM, on users whose right roles and next steps are obvious."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from rolegen_agent.catalogue import TextCatalogue
from rolegen_agent.evidence import EvidenceOptions, Market, compute_evidence
from rolegen_agent.observer import LogObserver
from rolegen_agent.reasoning import EvidenceReasoner
from rolegen_errors import FutureError
from rolegen_graphs.ports import Catalogue, Observer, Reasoner
from rolegen_graphs.words import (
    CallSite,
    Candidate,
    Correction,
    Effect,
    ItemSpec,
    Observation,
    Path,
    Reading,
    RoleLabel,
    Signal,
)

from .test_evidence import AT, LOOSE, Row, catalogue, items_of, log

SITE = CallSite(decision="d", round=1, node="reason")
NAMES = {
    "phone": "electronics",
    "case": "accessories",
    "coffee": "food",
    "sample": "beauty",
    "watch": "watches",
    "watchdear": "watches",
    "salt": "spices",
}


class Shop:
    """A log, and the rooms built on it."""

    def __init__(self, *rows: Row, at: datetime = AT, options: EvidenceOptions = LOOSE) -> None:
        events, items = log(*rows), catalogue(**NAMES)
        dear = pl.when(pl.col("item") == "watchdear").then(10.0).otherwise(1.0).cast(pl.Float32)
        events = events.with_columns(price=dear)
        market = Market(events, items)
        self.at = at
        self.reasoner = EvidenceReasoner(compute_evidence(events, items, at=at, options=options), market)
        self.observer = LogObserver(events, items)
        self.catalogue = TextCatalogue(items, market)

    def see(self, user: str) -> Observation:
        return self.observer.observe(user, self.at)

    def labels(self, user: str) -> dict[tuple[str, str], RoleLabel]:
        """By (item, role)."""
        reading = self.reasoner.reason(self.see(user), (), site=SITE)
        return {(label.item, label.role): label for label in reading.labels}

    def paths(self, user: str, *corrections: Correction) -> tuple[Path, ...]:
        seen = self.see(user)
        reading = self.reasoner.reason(seen, corrections, site=SITE)
        return self.reasoner.simulate(seen, reading, corrections, site=SITE)


@pytest.fixture(scope="module")
def shop() -> Shop:
    rows: list[Row] = []
    for n in range(12):
        rows += [(f"drinker{n}", "coffee", day, "order") for day in (500, 530, 560, 590, 620)]
        rows += [(f"caller{n}", "phone", 660, "order"), (f"caller{n}", "case", 662, "order")]
        rows += [(f"fan{n}", "sample", 560, "order"), (f"fan{n}", "coffee", 590, "order")]
        rows += [(f"looker{n}", "watchdear", 630, "view"), (f"looker{n}", "watch", 630.01, "view")]
        rows += [(f"looker{n}", "watch", 630.02, "order")]
        rows += [(f"once{n}", "salt", 100, "order"), (f"other{n}", "salt", 700 + n, "order")]
        rows += [(f"seller{n}", "phone", 710, "order"), (f"seller{n}", "coffee", 711, "order")]
    rows += [("owner", "phone", 580, "order")]
    return Shop(*rows)


def test_a_rhythm_is_replenishment(shop: Shop) -> None:
    label = shop.labels("drinker3")["coffee", "replenishment"]
    assert label.confidence > 0.7
    assert len(label.evidence) == 4 and max(label.evidence) < label.event
    assert label.statistic is not None and label.statistic.name == "replenishment.rebuy_lift"
    assert label.statistic.low > 1.0
    assert "5th time" in label.why and "every 30 days" in label.why


def test_an_accessory_is_a_complement_of_what_came_before(shop: Shop) -> None:
    label = shop.labels("caller0")["case", "complement"]
    phone = next(event for event in shop.see("caller0").trajectory.events if event.item == "phone")
    assert label.evidence == (phone.event,)
    assert label.statistic is not None and label.statistic.low > 1.0
    assert label.intent_before.stage == "none" and label.intent_after.stage == "satisfied"


def test_beliefs_hold_every_role_that_the_log_speaks_for_with_what_stands_behind_it(shop: Shop) -> None:
    seen = shop.see("drinker3")
    beliefs = shop.reasoner.beliefs(seen)
    labels = {label.event: label for label in shop.reasoner.reason(seen, (), site=SITE).labels}
    [rebuy] = [event for event, label in labels.items() if label.role == "replenishment"]
    belief = beliefs[rebuy]["replenishment"]
    assert belief.probability == pytest.approx(labels[rebuy].confidence)
    assert belief.statistic == labels[rebuy].statistic and belief.statistic is not None
    assert belief.support == belief.statistic.support + 4, (
        "the log's observations, and four earlier orders of their own"
    )
    first = beliefs[seen.trajectory.events[0].event]
    assert "gateway" in first and "replenishment" not in first, "a first order is no rebuy"
    assert set(beliefs) <= {event.event for event in seen.trajectory.events}


def test_a_role_without_a_statistic_rests_on_the_users_own_events_alone(shop: Shop) -> None:
    found = [shop.reasoner.beliefs(shop.see(user)) for user in ("owner", "looker0", "drinker0", "seller0")]
    thin = [one for beliefs in found for roles in beliefs.values() for one in roles.values() if one.statistic is None]
    assert thin and all(1 <= one.support <= 4 for one in thin)


def test_a_first_order_that_people_return_from_is_a_gateway(shop: Shop) -> None:
    label = shop.labels("fan1")["sample", "gateway"]
    assert label.statistic is not None and label.statistic.name == "gateway.second_order_lift"


def test_the_dear_one_was_the_anchor_and_the_cheap_one_the_target(shop: Shop) -> None:
    labels = shop.labels("looker2")
    assert labels["watchdear", "anchor"].confidence >= 0.5
    assert labels["watch", "target"].confidence > 0.6
    order = next(event.event for event in shop.see("looker2").trajectory.events if event.behaviour == "order")
    assert all(max(label.evidence, default=-1) <= order for label in labels.values())


def test_labels_cite_only_what_came_before_and_are_in_time_order(shop: Shop) -> None:
    for user in ("drinker0", "caller0", "fan0", "looker0", "other0", "seller0"):
        seen = shop.see(user)
        known = {event.event for event in seen.trajectory.events}
        labels = shop.reasoner.reason(seen, (), site=SITE).labels
        assert labels, user
        assert [label.event for label in labels] == sorted(label.event for label in labels)
        for label in labels:
            assert label.event in known and set(label.evidence) <= known
            assert all(event <= label.event for event in label.evidence)
            assert label.why


def test_the_present_intent_fades(shop: Shop) -> None:
    def intent(user: str) -> Reading:
        return shop.reasoner.reason(shop.see(user), (), site=SITE)

    assert intent("seller0").intent.stage == "satisfied", "19 days ago"
    old = intent("looker0").intent
    assert old.stage == "none" and old.category is None and "watches" in old.need


def test_paths_propose_what_is_due_and_what_goes_with_it(shop: Shop) -> None:
    habit = shop.paths("drinker0")[0]
    assert habit.intervention.role == "replenishment" and habit.intervention.text == "title of coffee"
    assert "5 days" in habit.why and "due" in habit.why
    complement = next(path for path in shop.paths("owner") if path.intervention.role == "complement")
    assert complement.intervention.text == "title of case"
    assert complement.intervention.category == "accessories"
    assert "title of phone" in complement.why
    for path in shop.paths("owner"):
        assert len(path.specs()) == 1 or path.specs()[-1].role == "target"


def test_paths_differ_in_kind_and_share_no_item(shop: Shop) -> None:
    seen = shop.see("owner")
    paths = shop.paths("owner")
    assert 2 <= len(paths) <= 4
    assert len({path.path for path in paths}) == len(paths)
    specs = [(path.path, step, spec) for path in paths for step, spec in enumerate(path.specs())]
    texts = [spec.text for _, _, spec in specs]
    assert len(texts) == len(set(texts))
    grounded = shop.catalogue.ground(specs, seen)
    assert [candidate.title for candidate in grounded] == texts, "each wish finds the item that was meant"
    assert {candidate.fate for candidate in grounded} == {"accepted"}


def test_corrections_change_the_next_round(shop: Shop) -> None:
    first = shop.paths("owner")
    kind = first[0].path
    assert kind not in {path.path for path in shop.paths("owner", correction("wrong_role", path=kind))}
    assert kind not in {path.path for path in shop.paths("owner", correction("ungrounded", path=kind))}
    open_price = shop.paths("owner", correction("wrong_price", path=kind))
    spec = next(path for path in open_price if path.path == kind).intervention
    assert spec.price_low is None and spec.category is not None
    anywhere = shop.paths("owner", correction("wrong_category", path=kind))
    assert next(path for path in anywhere if path.path == kind).intervention.category is None

    seen = shop.see("drinker0")
    label = shop.reasoner.reason(seen, (), site=SITE).labels[-1]
    again = shop.reasoner.reason(seen, [correction("wrong_role", event=label.event)], site=SITE)
    assert next(one for one in again.labels if one.event == label.event).role == "unresolved"


def test_too_early_leaves_out_what_is_not_due() -> None:
    rows: list[Row] = [(f"u{n}", "coffee", day, "order") for n in range(6) for day in (600, 660, 720)]
    rows += [("u0", "salt", day, "order") for day in (600, 605)]
    early = Shop(*rows)
    rebuys = {spec.text for path in early.paths("u0") for spec in path.specs() if path.path == 0}
    assert rebuys == {"title of coffee", "title of salt"}
    due = early.paths("u0", correction("too_early", path=0), correction("wrong_role", path=6))
    assert {spec.text for path in due for spec in path.specs() if path.path == 0} == {"title of salt"}


def test_what_was_given_back_is_not_offered_as_a_habit() -> None:
    rows: list[Row] = [(f"u{n}", "coffee", day, "order") for n in range(6) for day in (600, 660)]
    rows += [("u0", "salt", 600, "order"), ("u0", "salt", 601, "refund")]
    texts = {path.path: [spec.text for spec in path.specs()] for path in Shop(*rows).paths("u0")}
    assert texts[0] == ["title of coffee"]


def test_reflection_is_typed(shop: Shop) -> None:
    seen = shop.see("owner")
    reading = shop.reasoner.reason(seen, (), site=SITE)
    paths = shop.paths("owner")
    rebuy, other = paths[0], next(path for path in paths if path.path not in (0, 6))
    lost = tuple(
        Candidate(path=other.path, step=n, role=spec.role, spec=spec, fate="rejected", reason="none")
        for n, spec in enumerate(other.specs())
    )
    effects = [
        Effect(path=rebuy.path, probability_without=0.2, probability_with=0.1, change=-0.1, low=-0.15, high=-0.05)
    ]
    signals = [
        Signal(kind="negative_effect", detail="below zero", path=0),
        Signal(kind="ungrounded", detail="nothing found", path=other.path),
        Signal(kind="disagreement", detail="log says otherwise", event=reading.labels[0].event),
        Signal(kind="collapse", detail="one category"),
        Signal(kind="cost", detail="free"),
    ]
    reflection = shop.reasoner.reflect(seen, reading, paths, lost, effects, signals, site=SITE)
    assert [(c.kind, c.path, c.event) for c in reflection.corrections] == [
        ("too_early", 0, None),
        ("ungrounded", other.path, None),
        ("wrong_role", None, reading.labels[0].event),
        ("collapsed", None, None),
    ]
    assert len(reflection.lessons) == 1 and seen.trajectory.cohort in reflection.lessons[0]
    quiet = shop.reasoner.reflect(seen, reading, paths, (), (), (), site=SITE)
    assert quiet.corrections == () and quiet.lessons == ()


def test_revision_relaxes_one_demand_at_a_time(shop: Shop) -> None:
    spec: ItemSpec | None = ItemSpec(role="target", category="food", price_low=1.0, price_high=2.0, text="coffee")
    demands = []
    while spec is not None:
        demands.append((spec.price_low is not None, spec.category is not None))
        rejected = Candidate(path=0, step=0, role="target", spec=spec, fate="rejected", reason="none")
        (spec,) = shop.reasoner.revise(shop.see("owner"), [rejected], site=SITE)
    assert demands == [(True, True), (False, True), (False, False)]


def test_evidence_from_after_the_decision_is_refused(shop: Shop) -> None:
    early = shop.observer.observe("drinker0", AT - timedelta(days=60))
    with pytest.raises(FutureError, match="role evidence knows events up to"):
        shop.reasoner.reason(early, (), site=SITE)


def test_on_the_real_log_two_builds_agree_and_the_future_never_shows(shop_slice: pl.DataFrame) -> None:
    at = datetime(2011, 4, 1, tzinfo=UTC)
    items = items_of(shop_slice)
    users = (
        shop_slice.filter(pl.col("time") < at)
        .group_by("user")
        .agg(pl.col("time").max())
        .filter(pl.col("time") < at - timedelta(days=90))["user"]
        .sort()
        .head(40)
    )
    answers = []
    for events in (shop_slice, shop_slice.filter(pl.col("time") < at)):
        market = Market(events, items)
        reasoner: Reasoner = EvidenceReasoner(compute_evidence(events, items, at=at), market)
        observer: Observer = LogObserver(events, items)
        grounding: Catalogue = TextCatalogue(items, market, stock_days=60)
        answer = []
        for user in users:
            seen = observer.observe(user, at)
            reading = reasoner.reason(seen, (), site=SITE)
            paths = reasoner.simulate(seen, reading, (), site=SITE)
            specs = [(path.path, step, spec) for path in paths for step, spec in enumerate(path.specs())]
            answer.append((reading, paths, grounding.ground(specs, seen)))
        answers.append(answer)
    assert answers[0] == answers[1]
    assert sum(len(paths) for _, paths, _ in answers[0]) > 3 * len(users)
    fates = [candidate.fate for *_, grounded in answers[0] for candidate in grounded]
    assert fates.count("rejected") < 0.1 * len(fates)


def correction(kind: str, *, path: int | None = None, event: int | None = None) -> Correction:
    return Correction.model_validate({"kind": kind, "detail": "for the test", "path": path, "event": event})


def test_a_user_who_was_only_shown_things_gets_paths_too() -> None:
    rows: list[Row] = [(f"u{n}", item, 700 + n, "order") for n in range(6) for item in ("coffee", "phone")]
    rows += [("shown", "coffee", 690, "expose")]
    shop = Shop(*rows)
    seen = shop.see("shown")
    label = shop.reasoner.reason(seen, (), site=SITE).labels[0]
    assert (label.role, label.intent_after.stage) == ("incidental", "none")
    titles = {spec.text for path in shop.paths("shown") for spec in path.specs()}
    assert titles == {"title of coffee", "title of phone"}
