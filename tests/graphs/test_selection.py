"""Which paths are used: effect, diversity, quotas, and a reason for every one that is not."""

from __future__ import annotations

import math
import random

from rolegen_graphs.selection import Selection, select_paths
from rolegen_graphs.words import Candidate, Effect, ItemSpec, Path, PathChoice, Role


def path(number: int, role: Role, category: str | None, *, why: str = "") -> Path:
    wish = ItemSpec(role=role, category=category, text="thing")
    return Path(path=number, operation="insert", intervention=wish, steps=(wish,), why=why)


def grounded(one: Path, *items: str | None) -> list[Candidate]:
    return [
        Candidate(
            path=one.path,
            step=step,
            role=one.intervention.role,
            spec=one.intervention,
            fate="accepted" if item else "rejected",
            reason="",
            item=item,
        )
        for step, item in enumerate(items)
    ]


def effect(number: int, low: float, width: float = 0.01) -> Effect:
    middle = low + width / 2
    return Effect(
        path=number, probability_without=0.3, probability_with=0.3 + middle, change=middle, low=low, high=low + width
    )


def choose(
    rows: list[tuple[Path, tuple[str | None, ...], Effect | None]], **settings: float
) -> tuple[list[int], dict[int, PathChoice]]:
    """Numbers of the used paths in the order of their choice, and all choices."""
    found = select_paths(
        [one for one, _, _ in rows],
        [c for one, items, _ in rows for c in grounded(one, *items)],
        [e for _, _, e in rows if e is not None],
        Selection.model_validate(settings),
    )
    assert [choice.path for choice in found] == [one.path for one, _, _ in rows], "one for each path, in their order"
    used = sorted((choice for choice in found if choice.place), key=lambda choice: choice.place or 0)
    assert [choice.place for choice in used] == list(range(1, len(used) + 1))
    assert all(choice.chosen == (choice.place is not None) and choice.reason for choice in found)
    return [choice.path for choice in used], {choice.path: choice for choice in found}


def test_without_diversity_the_best_effects_are_used() -> None:
    rows = [(path(n, "target", "Light"), (f"i{n}",), effect(n, low)) for n, low in enumerate([0.01, 0.2, 0.1, 0.15])]
    used, choices = choose(rows, paths=2, diversity=0, per_role=9, per_category=9)
    assert used == [1, 3]
    assert choices[1].effect == 1.0 and choices[0].effect == 0.0
    assert "2 paths" in choices[2].reason


def test_diversity_takes_another_role_and_category_before_a_little_more_effect() -> None:
    rows = [
        (path(0, "target", "Light"), ("a", "b"), effect(0, 0.20)),
        (path(1, "target", "Light"), ("a", "b"), effect(1, 0.19)),
        (path(2, "bridge", "Garden"), ("c",), effect(2, 0.15)),
        (path(3, "trigger", "Toys"), ("d",), effect(3, 0.01)),
    ]
    assert choose(rows, paths=2, diversity=0)[0] == [0, 1]
    used, choices = choose(rows, paths=2, diversity=0.5)
    assert used == [0, 2]
    assert choices[1].likeness == 1.0 and "most alike to path 0" in choices[1].reason


def test_differences_within_the_intervals_count_little() -> None:
    def rows(width: float) -> list[tuple[Path, tuple[str | None, ...], Effect | None]]:
        return [
            (path(0, "target", "Light"), ("a",), effect(0, 0.03, width)),
            (path(1, "target", "Light"), ("b",), effect(1, 0.02, width)),
            (path(2, "bridge", "Garden"), ("c",), effect(2, 0.00, width)),
        ]

    assert choose(rows(0.001), paths=2, diversity=0.3)[0] == [0, 1], "the effects are told apart well"
    assert choose(rows(0.5), paths=2, diversity=0.3)[0] == [0, 2], "the effects are the same within their intervals"


def test_quotas_hold_and_say_what_they_left_out() -> None:
    rows = [(path(n, "target", f"c{n}"), (f"i{n}",), effect(n, 0.1 - n / 100)) for n in range(4)]
    rows += [(path(4, "bridge", "c0"), ("x",), effect(4, 0.0))]
    used, choices = choose(rows, paths=4, per_role=2, diversity=0)
    assert used == [0, 1, 4] and "quota of 2 for role target" in choices[2].reason
    used, choices = choose(rows, paths=4, per_role=9, per_category=1, diversity=0)
    assert used == [0, 1, 2, 3] and "quota of 1 for category c0" in choices[4].reason
    nowhere = [(path(n, "target", None), (f"i{n}",), effect(n, 0.1)) for n in range(3)]
    assert len(choose(nowhere, paths=3, per_role=9, per_category=1)[0]) == 3, "no category is none to fill"


def test_harmful_and_ungrounded_paths_are_never_used() -> None:
    rows = [
        (path(0, "target", "Light", why="sells 99 % better, effect +5.0"), ("a",), effect(0, -0.2)),
        (path(1, "bridge", "Garden", why="surely doubles conversion"), (None, None), None),
        (path(2, "trigger", "Toys"), ("b",), effect(2, -0.005)),
    ]
    used, choices = choose(rows, paths=3)
    assert used == [2], "an interval that holds zero is no harm for certain, and prose counts for nothing"
    assert "lies below zero" in choices[0].reason and "none of its specs became an item" in choices[1].reason
    assert choose(rows[:2], paths=3)[0] == []
    assert choose([])[0] == []


def test_ties_go_to_the_smaller_number_whatever_the_order() -> None:
    rows = [(path(n, "target", "Light"), ("a",), effect(n, 0.1)) for n in range(4)]
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert choose(rows, paths=2)[0] == [0, 1]


def test_an_infinite_interval_is_an_honest_one() -> None:
    unknown = effect(0, 0.0).model_copy(update={"low": -math.inf, "high": math.inf})
    rows = [
        (path(0, "target", "Light"), ("a",), unknown),
        (path(1, "bridge", "Garden"), ("b",), effect(1, 0.1)),
    ]
    used, choices = choose(rows, paths=1, diversity=0)
    assert used == [1] and choices[0].effect == 0.0


def test_more_diversity_never_means_fewer_roles_and_categories() -> None:
    rng = random.Random(3)
    roles: list[Role] = ["target", "bridge", "trigger", "complement"]
    for _ in range(30):
        rows: list[tuple[Path, tuple[str | None, ...], Effect | None]] = [
            (path(n, rng.choice(roles), rng.choice("ABC")), (rng.choice("abcdef"),), effect(n, rng.uniform(0, 0.2)))
            for n in range(8)
        ]
        kinds = []
        for diversity in (0.0, 1.0):
            used, _ = choose(rows, paths=3, diversity=diversity, per_role=9, per_category=9)
            picked = [one for one, _, _ in rows if one.path in used]
            kinds.append(len({(p.intervention.role, p.steps[-1].category) for p in picked}))
        assert kinds[0] <= kinds[1]
