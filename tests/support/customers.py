"""Finished decisions about customers of a gift shop, for tests of pages that show them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from rolegen_graphs.words import (
    ROLES,
    Answer,
    Candidate,
    Correction,
    Decision,
    Effect,
    Event,
    Intent,
    ItemSpec,
    Observation,
    Outcome,
    Path,
    Reading,
    Reflection,
    RoleLabel,
    Round,
    Signal,
    Slate,
    SlateItem,
    Statistic,
    Trajectory,
)

AT = datetime(2011, 9, 1, tzinfo=UTC)
TITLES = (
    "WHITE HANGING HEART T-LIGHT HOLDER",
    "REGENCY CAKESTAND 3 TIER",
    "JUMBO BAG RED RETROSPOT",
    "ASSORTED COLOUR BIRD ORNAMENT",
    "PARTY BUNTING",
    "LUNCH BAG  BLACK SKULL.",
    "SET OF 3 CAKE TINS PANTRY DESIGN",
    "PACK OF 72 RETROSPOT CAKE CASES",
    "SPOTTY BUNTING",
    "PAPER CHAIN KIT 50'S CHRISTMAS",
    "HOME BUILDING BLOCK WORD",
    "NATURAL SLATE HEART CHALKBOARD",
    "VICTORIAN GLASS HANGING T-LIGHT",
    "HEART OF WICKER SMALL",
)


def customer(number: int, *, titles: Sequence[str] = TITLES, user: str | None = None, labels: int = 8) -> Decision:
    """A decision for customer ``number``: item ``item0`` is the first of its slate, ``item1`` the second, and so on.

    Its events, paths and slates use ``titles`` in turn; its second and fifth item come from path 1, and only the fifth
    is missing in the slate without reasoning.
    """

    def title(i: int) -> str:
        return titles[(number + i) % len(titles)]

    name = user or str(12000 + number)
    events = tuple(
        Event(
            event=i,
            at=AT - timedelta(days=400 - 20 * i + number % 7),
            item=f"item{i}",
            title=title(i),
            category="home & light",
            behaviour="order" if i % 2 else "view",
            quantity=2,
            price=3.5,
        )
        for i in range(labels)
    )
    browsing, deciding = Intent(stage="browsing", category="home & light"), Intent(stage="deciding", category="party")
    roles = tuple(
        RoleLabel(
            event=i,
            item=f"item{i}",
            role=ROLES[(number + i) % len(ROLES)],
            confidence=0.5 + 0.05 * (i % 9),
            intent_before=browsing,
            intent_after=deciding if i % 3 == 0 else browsing,
            statistic=Statistic(name="rebuy_regularity", value=2.1, low=1.4, high=3.0, support=34),
        )
        for i in range(labels)
    )
    target = ItemSpec(role="target", category="party", price_low=2.0, price_high=5.5)
    paths = tuple(
        Path(
            path=n,
            operation="insert",
            intervention=ItemSpec(role=ROLES[(number + n) % 8], category="home & light", price_high=4.0, text="heart"),
            steps=(target,),
        )
        for n in (1, 2, 3)
    )
    candidates = tuple(
        Candidate(
            path=path.path,
            step=step,
            role=spec.role,
            spec=spec,
            fate="rejected" if path.path == 3 and step else "accepted" if step else "mapped",
            reason="out of stock at the decision" if path.path == 3 and step else "same category and price band",
            item=None if path.path == 3 and step else f"item{path.path + step}",
            title="" if path.path == 3 and step else title(path.path + step),
        )
        for path in paths
        for step, spec in enumerate(path.specs())
    )
    effects = tuple(
        Effect(path=n, probability_without=0.21, probability_with=0.21 + c, change=c, low=c - 0.02, high=c + 0.02)
        for n, c in ((1, 0.034), (2, 0.011), (3, -0.031))
    )
    slate = Slate(
        items=tuple(
            SlateItem(
                rank=i + 1,
                item=f"item{i}",
                title=title(i),
                score=0.5 - i / 30,
                parts={"repeat": 0.31, "next": 0.12, "candidate": -0.07},
                role="bridge" if i in (1, 4) else None,
                path=1 if i in (1, 4) else None,
            )
            for i in range(10)
        )
    )
    without = Slate(
        items=tuple(
            SlateItem(rank=rank, item=f"item{i}", title=title(i), score=0.1)
            for rank, i in enumerate([0, 1, 2, 3, 5, 6, 7, 8, 9, 10], start=1)
        )
    )
    last = Round(
        number=1,
        reading=Reading(labels=roles, intent=Intent(stage="none", category="home & light", need="restock of gifts")),
        paths=paths,
        candidates=candidates,
        effects=effects,
        slate=slate,
        signals=(Signal(kind="ungrounded", detail="1 of 6 wishes met no item", value=1.0),),
        reflection=Reflection(corrections=(Correction(kind="ungrounded", detail="drop the target of path 3", path=3),)),
        answers=(Answer(node="reason", reasoner="evidence"),),
    )
    return Decision(
        decision=f"d{number}",
        run="r",
        user=name,
        at=AT,
        observation=Observation(
            trajectory=Trajectory(
                user=name,
                at=AT,
                events=events,
                total_events=85,
                orders=6,
                days_since_last=121.0 + number * number % 300,
                dormant_because="Ordered on 6 days, and nothing in the last 121 days.",
                cohort="lapsed buyer",
            )
        ),
        rounds=(last,),
        slate=slate,
        slate_without_reasoning=without,
        reasoner="evidence",
    )


def came_back(made: Decision, *items: str) -> Outcome:
    """``items`` bought 12 days after the decision."""
    return Outcome(
        decision=made.decision, user=made.user, ordered_at=made.at + timedelta(days=12), items=items, value=42.5
    )


def stayed_away(made: Decision, *, final: bool = True) -> Outcome:
    """No order within the horizon; not ``final`` while it is open."""
    return Outcome(decision=made.decision, user=made.user, ordered_at=None, final=final)
