"""The checks of the ports: parts that keep the rules pass, and each rule finds the part that breaks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from rolegen_graphs.conformance import (
    ConformanceError,
    check_candidate_source,
    check_catalogue,
    check_observer,
    check_outcome_source,
    check_reasoner,
    check_recommender,
)
from rolegen_graphs.words import Candidate, Effect, ItemSpec, Observation, Path, Proposal, Slate, SlateItem
from tests.support.ports import AT, SHELF, ListedUsers, Ranker, Shelf, Thinker

LAMP = ItemSpec(role="complement", text="lamp")


class Careful(Ranker):
    """The test's recommender without candidates that do not exist, which a real one is handed too."""

    def slate(self, user: str, at: Any, candidates: Sequence[Candidate], size: int, labels: Any = ()) -> Slate:
        return super().slate(user, at, [one for one in candidates if one.item in SHELF], size, labels)


@dataclass
class Spoilt:
    """``part``, whose answers to one question are changed."""

    part: Any
    question: str
    change: Callable[[Any], Any]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.part, name)
        return found if name != self.question else lambda *given, **more: self.change(found(*given, **more))


def broken(check: Callable[[], object]) -> str:
    with pytest.raises(ConformanceError) as caught:
        check()
    return "\n".join(caught.value.broken)


def recommended(part: Any) -> None:
    check_recommender(part, users=["ann"], at=AT, items=SHELF, size=4)


def grounded(part: Any) -> None:
    check_catalogue(part, specs=[LAMP], seen=[ListedUsers().observe("ann", AT)], items=SHELF)


def reasoned(part: Any) -> None:
    check_reasoner(part, seen=[ListedUsers().observe("ann", AT)])


def observed(part: Any) -> tuple[Observation, ...]:
    return check_observer(part, users=["ann"], at=AT)


def test_parts_that_keep_the_rules_pass() -> None:
    recommended(Careful())
    grounded(Shelf())
    reasoned(Thinker())
    assert observed(ListedUsers()) == (ListedUsers().observe("ann", AT),)


def moved(event: Any) -> Callable[[Observation], Observation]:
    def change(seen: Observation) -> Observation:
        events = tuple(one.model_copy(update=event) for one in seen.trajectory.events)
        return seen.model_copy(update={"trajectory": seen.trajectory.model_copy(update={"events": events})})

    return change


def slate_of(*items: Any) -> Callable[[Slate], Slate]:
    return lambda slate: slate.model_copy(update={"items": items})


def place(**more: Any) -> SlateItem:
    return SlateItem(**{"rank": 1, "item": "lamp", "title": "Lamp", "score": 0.5, **more})


EFFECT: dict[str, Any] = {"probability_without": 0.3, "probability_with": 0.4, "low": 0.0, "high": 0.2}


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("1 to `size` items", slate_of()),
        ("no item stands twice", slate_of(place(), place(rank=2))),
        ("ranks count from 1", slate_of(place(rank=0))),
        ("every item exists", slate_of(place(item="dragon"))),
        ("scores are finite", slate_of(place(score=float("nan")))),
    ],
)
def test_a_slate_that_breaks_a_rule_is_found(rule: str, change: Any) -> None:
    assert rule in broken(lambda: recommended(Spoilt(Careful(), "slate", change)))


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("one effect for each path, in order", lambda found: found[::-1]),
        ("the change is their difference", lambda found: [Effect(path=p.path, change=0.15, **EFFECT) for p in found]),
        (
            "the change lies in its interval",
            lambda found: [Effect(path=p.path, change=0.1, **{**EFFECT, "low": 0.15}) for p in found],
        ),
        (
            "probabilities lie in [0, 1]",
            lambda found: [Effect(path=p.path, change=0.9, **{**EFFECT, "probability_with": 1.2}) for p in found],
        ),
    ],
)
def test_a_rollout_that_breaks_a_rule_is_found(rule: str, change: Any) -> None:
    assert rule in broken(lambda: recommended(Spoilt(Careful(), "rollout", change)))


def test_a_recommender_that_trips_over_an_unknown_item_or_forgets_is_found() -> None:
    assert "answers a slate for user 'ann' with 5 candidates; seen: KeyError('no item of this id')" in broken(
        lambda: recommended(Ranker())
    )
    answers = iter(range(10_000))
    moody = Spoilt(Careful(), "slate", lambda slate: slate.model_copy(update={"entropy": next(answers)}))
    told = broken(lambda: recommended(moody))
    assert "the same question has the same slate" in told and "several threads get the same slates" in told


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("one candidate for each spec, in order", lambda found: found[::-1]),
        ("a met wish has an item that exists", lambda found: [c.model_copy(update={"fate": "mapped"}) for c in found]),
        ("a rejected spec has no item", lambda found: [c.model_copy(update={"fate": "rejected"}) for c in found]),
        ("a rejected spec has a reason", lambda found: [c.model_copy(update={"reason": ""}) for c in found]),
        ("no spec, no candidate", lambda found: found or "something"),
    ],
)
def test_a_catalogue_that_breaks_a_rule_is_found(rule: str, change: Any) -> None:
    assert rule in broken(lambda: grounded(Spoilt(Shelf(), "ground", change)))


def test_a_catalogue_that_meets_no_wish_is_found() -> None:
    [seen] = observed(ListedUsers())
    wish = ItemSpec(role="complement", text="dragon")
    assert "meets at least one" in broken(lambda: check_catalogue(Shelf(), specs=[wish], seen=[seen], items=SHELF))


def relabelled(**more: Any) -> Callable[[Any], Any]:
    def change(reading: Any) -> Any:
        return reading.model_copy(update={"labels": tuple(one.model_copy(update=more) for one in reading.labels)})

    return change


@pytest.mark.parametrize(
    ("rule", "question", "change"),
    [
        ("labels are of events of the trajectory", "reason", relabelled(event=99)),
        ("a label has its event's item", "reason", relabelled(item="cup")),
        ("evidence names events of the trajectory", "reason", relabelled(evidence=(99,))),
        ("labels an event at most once", "reason", lambda r: r.model_copy(update={"labels": r.labels * 2})),
        ("paths have different numbers", "simulate", lambda paths: paths * 2),
        ("insert names no event", "simulate", lambda paths: [paths[0].model_copy(update={"replaces": 7})]),
        (
            "remove names an event of the trajectory",
            "simulate",
            lambda paths: [Path(path=1, operation="remove", intervention=LAMP, replaces=99)],
        ),
        ("revises each rejected candidate", "revise", lambda specs: specs[:-1]),
    ],
)
def test_a_reasoner_that_breaks_a_rule_is_found(rule: str, question: str, change: Any) -> None:
    assert rule in broken(lambda: reasoned(Spoilt(Thinker(), question, change)))


def test_a_reasoner_that_cannot_answer_is_found() -> None:
    assert "answers reflect" in broken(lambda: reasoned(Thinker(fails=frozenset({"reflect"}))))


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("events lie strictly before the decision", moved({"at": AT})),
        (
            "is of the user that was asked for",
            lambda seen: seen.model_copy(update={"trajectory": seen.trajectory.model_copy(update={"user": "bob"})}),
        ),
        (
            "is of the time that was asked for",
            lambda seen: seen.model_copy(
                update={"trajectory": seen.trajectory.model_copy(update={"at": AT + timedelta(days=1)})}
            ),
        ),
        (
            "total_events counts what is listed",
            lambda seen: seen.model_copy(update={"trajectory": seen.trajectory.model_copy(update={"total_events": 0})}),
        ),
    ],
)
def test_an_observer_that_breaks_a_rule_is_found(rule: str, change: Any) -> None:
    assert rule in broken(lambda: observed(Spoilt(ListedUsers(), "observe", change)))


def test_an_observer_that_knows_everybody_is_found() -> None:
    everybody = ListedUsers(users=("ann", "no user of this name"))
    assert "a user without events raises InputError" in broken(lambda: observed(everybody))


@dataclass
class Campaign:
    """A candidate source with a fixed list; ``moods`` adds what it never said before."""

    name: str = "campaign"
    items: Sequence[str] = ("lamp", "moon")
    moods: int | None = None

    def propose(self, seen: Observation, reading: Any) -> list[Proposal]:
        if self.moods is not None:
            self.moods += 1
        return [Proposal(item=item, why=str(self.moods)) for item in self.items]


def sourced(part: Any) -> None:
    check_candidate_source(part, seen=[ListedUsers().observe("ann", AT)], items=SHELF)


def test_a_candidate_source_is_held_to_its_rules() -> None:
    sourced(Campaign())
    for rule, part in {
        "has a name of one line": Campaign(name=""),
        "puts an item forward once": Campaign(items=("lamp", "lamp")),
        "at least one item that exists": Campaign(items=("moon",)),
        "the same question has the same answer": Campaign(moods=0),
        "answers for user 'ann'": Campaign(items=(None,)),  # type: ignore[arg-type]
    }.items():
        assert rule in broken(lambda part=part: sourced(part))  # type: ignore[misc]


@dataclass
class Orders:
    """An outcome source over a list; ``heeds`` the time it is asked for."""

    rows: Sequence[Any]
    heeds: bool = True

    def reports(self, since: Any) -> list[Any]:
        return [row for row in self.rows if not self.heeds or row["ordered_at"] >= since]


def test_an_outcome_source_is_held_to_its_rules() -> None:
    first, second = ({"user": "ann", "ordered_at": AT + timedelta(days=day), "items": ["lamp"]} for day in (1, 2))
    told = check_outcome_source(Orders([first, second]), since=AT)
    assert [one.ordered_at for one in told] == [first["ordered_at"], second["ordered_at"]]
    early = {"user": "ann", "ordered_at": AT - timedelta(days=1)}
    for rule, part in {
        "tells at least one report": Orders([]),
        "tells no order from before": Orders([early, first], heeds=False),
        "a later time drops what lies before it": Orders([first, second], heeds=False),
        "everything is a report": Orders([{**first, "items": 7}]),
        "an OutcomeReport or a mapping": Orders(["ann"], heeds=False),
    }.items():
        assert rule in broken(lambda part=part: check_outcome_source(part, since=AT))  # type: ignore[misc]
