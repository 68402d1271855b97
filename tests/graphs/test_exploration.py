"""Drawn slates: the recorded probabilities are the true ones, the guard's rule holds, and a decision draws the same again."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolegen_errors import ProjectError
from rolegen_graphs import create_decision_graph
from rolegen_graphs.exploration import chances, drawn, redrawn
from rolegen_graphs.guard import guarded, half
from rolegen_graphs.words import Decision, Draw, Slate, SlateItem
from tests.support.ports import AT, parts, steering


def slate(*items: str) -> Slate:
    return Slate(
        items=tuple(
            SlateItem(rank=rank, item=item, title=item.upper(), score=1 / rank)
            for rank, item in enumerate(items, start=1)
        ),
        entropy=1.5,
    )


def ids(found: Slate) -> str:
    return "".join(item.item for item in found.items)


def test_every_slate_comes_up_as_often_as_its_propensities_say() -> None:
    """Small enough to enumerate: 'x' came by reasoning, so that it may not stand in the upper half."""
    shown, alone, longer = slate(*"abx"), slate(*"abc"), slate(*"abcd")
    draw = Draw(temperature=1.0, items=tuple("abxcd"), late=("x",))
    exact: dict[str, float] = {}
    for order in permutations("abxcd", 3):
        p = math.prod(chances(draw, order[:place], 3).get(item, 0.0) for place, item in enumerate(order))
        if p:
            exact["".join(order)] = p
    assert sum(exact.values()) == pytest.approx(1.0)
    assert not [order for order in exact if "x" in order[: half(3)]]
    N = 6000
    made = [drawn(shown, alone, longer, temperature=1.0, key=str(n)) for n in range(N)]
    often = Counter(ids(one) for one in made)
    assert set(often) <= set(exact)
    for order, p in exact.items():
        assert abs(often[order] / N - p) < 5 * math.sqrt(p * (1 - p) / N), order
    for one in made[:50]:
        told = [item.propensity or 0.0 for item in one.items]
        assert math.prod(told) == pytest.approx(exact[ids(one)])
        assert redrawn(one) == pytest.approx(told)


def test_equal_keys_draw_equal_slates_and_others_do_not() -> None:
    def make(key: str) -> Slate:
        return drawn(slate(*"abcdef"), slate(*"abcdef"), slate(*"abcdefghijkl"), temperature=1.0, key=key)

    assert make("one") == make("one")
    assert len({ids(make(str(n))) for n in range(20)}) > 10


def test_items_say_that_they_were_drawn_and_from_where() -> None:
    found = drawn(slate(*"abc"), slate(*"abc"), slate(*"abcdefghi"), temperature=5.0, key="k1")
    assert [item.rank for item in found.items] == [1, 2, 3]
    assert ["abcdefghi"[(item.drawn_from or 0) - 1] for item in found.items] == [item.item for item in found.items]
    assert found.draw is not None and found.draw.items == tuple("abcdefghi")
    assert found.entropy == 1.5


@pytest.mark.parametrize(("temperature", "share"), [(0.2, 0.96), (0.5, 0.62), (1.0, 0.25)])
def test_the_temperature_means_what_the_project_file_says(temperature: float, share: float) -> None:
    draw = Draw(temperature=temperature, items=tuple(f"i{n}" for n in range(30)))
    chance = chances(draw, [], 10)
    assert chance["i0"] == pytest.approx(share, abs=0.006) and sum(chance.values()) == pytest.approx(1)
    assert chance["i1"] / chance["i3"] == pytest.approx((4 / 2) ** (1 / temperature))


def test_hardly_any_chance_leaves_the_slate_as_it_was() -> None:
    found = drawn(slate(*"bax"), slate(*"abc"), slate(*"abcdef"), temperature=0.001, key="k")
    assert ids(found) == "bax" and [item.propensity for item in found.items] == pytest.approx([1, 1, 1])


@given(
    st.permutations("abcdefghijuvwxyz"),
    st.integers(0, 4),
    st.integers(1, 10),
    st.floats(0.01, 10),
    st.text(max_size=5),
)
def test_the_guards_rule_holds_for_every_drawn_slate(
    order: list[str], newcomers: int, size: int, temperature: float, key: str
) -> None:
    alone = slate(*"abcdefghij"[:size])
    shown = guarded(slate(*order[:size]), alone, newcomers)
    found = drawn(shown, alone, slate(*"abcdefghijklmnopqrst"), temperature=temperature, key=key)
    brought = set(ids(shown)) - set(ids(alone))
    assert len(set(ids(found))) == size
    assert len(set(ids(found)) & brought) <= newcomers
    assert not set(ids(found)[: half(size)]) & brought
    assert all(0 < (item.propensity or 0) <= 1 for item in found.items)
    assert redrawn(found) == pytest.approx([item.propensity for item in found.items])


def decide(**more: object) -> Decision:
    graph = create_decision_graph(parts(), settings=steering(slate_size=3, **more))
    decision = graph.compile().invoke({"user": "ann", "at": AT})["decision"]
    assert isinstance(decision, Decision)
    return decision


def test_the_loop_draws_where_it_is_told_to_and_the_same_again() -> None:
    still, first, again = decide(), decide(explore=2.0, run="r7"), decide(explore=2.0, run="r7")
    assert still.slate.draw is None and {item.propensity for item in still.slate.items} == {None}
    assert first.slate == again.slate and first.slate.draw is not None
    assert first.slate_without_reasoning.draw is None
    other = [decide(explore=2.0, run=f"r{n}").slate for n in range(6)]
    assert len({ids(one) for one in other}) > 1


@pytest.mark.parametrize("explore", [-0.1, float("inf"), float("nan")])
def test_no_other_temperature_is_taken(explore: float) -> None:
    with pytest.raises(ProjectError, match="explore"):
        steering(explore=explore)
