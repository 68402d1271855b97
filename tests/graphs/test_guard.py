"""Whoever reasons, and whatever a recommender believes: a slate keeps its upper half, and most of its items."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rolegen_graphs.guard import guarded, half
from rolegen_graphs.words import Slate, SlateItem


def slate(*items: str) -> Slate:
    return Slate(
        items=tuple(
            SlateItem(rank=rank, item=item, title=item.upper(), score=1 / rank)
            for rank, item in enumerate(items, start=1)
        ),
        entropy=1.5,
    )


def ids(found: Slate) -> list[str]:
    return [item.item for item in found.items]


ALONE = slate(*"abcdefghij")


def test_a_slate_within_the_bound_is_left_alone() -> None:
    reasoned = slate(*"bacdefxghi")
    assert guarded(reasoned, ALONE, 3) is reasoned


def test_what_only_reasoning_brought_in_waits_for_the_lower_half() -> None:
    found = guarded(slate(*"xabcdyefgh"), ALONE, 3)
    assert ids(found) == list("abcdexyfgh")
    assert [item.rank for item in found.items] == list(range(1, 11))
    assert found.items[5].score == 1.0 and found.entropy == 1.5, "scores stay what the recommender said"


def test_too_many_make_room_for_what_was_there_before() -> None:
    found = ids(guarded(slate(*"uvwxyzabcd"), ALONE, 2))
    assert found[:5] == list("abcde") and set(found[5:]) == {*"uv", *"fgh"}


def test_none_is_allowed_where_none_is_wanted() -> None:
    assert ids(guarded(slate(*"xyabcdefgh"), ALONE, 0)) == list("abcdefghij")


@given(st.permutations("abcdefghijuvwxyz"), st.integers(0, 10), st.integers(0, 10))
def test_the_bound_holds_for_every_slate(order: list[str], newcomers: int, size: int) -> None:
    alone = slate(*"abcdefghij"[:size])
    found = ids(guarded(slate(*order[:size]), alone, newcomers))
    assert len(found) == len(set(found)) == size
    new = [item for item in found if item not in ids(alone)]
    assert len(new) <= newcomers
    assert not set(new) & set(found[: half(size)])
    kept = [item for item in order[:size] if item in ids(alone)]
    assert [item for item in found if item in kept] == kept, "what stays keeps its order"
