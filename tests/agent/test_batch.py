"""Many users at once: nothing is decided twice, a stop loses nothing, and a failure names itself."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_errors import InputError
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, users_at

COUNT = 24


def decisions(shop: RoleGen, users: Sequence[str]) -> list[Any]:
    """The remembered decisions as plain values."""
    return [shop.trace(user).model_dump(mode="json") for user in users]


def about(value: Any) -> Any:
    """The same with numbers to four digits: their last bits depend on which users were ranked in one batch."""
    if isinstance(value, dict):
        return {key: about(one) for key, one in value.items()}
    if isinstance(value, list):
        return [about(one) for one in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


def test_the_second_run_finds_everything_done(shop: RoleGen) -> None:
    users = users_at(shop.project.root, COUNT)
    first = shop.awaken(users, AT)
    assert (first.wanted, first.earlier, first.decided, first.left, first.stopped) == (COUNT, 0, COUNT, 0, False)
    before = decisions(shop, users)
    second = shop.awaken(users, AT)
    assert (second.earlier, second.decided, second.left) == (COUNT, 0, 0)
    assert second.run == first.run
    assert decisions(shop, users) == about(before)


def test_a_user_named_twice_is_one_user(shop: RoleGen) -> None:
    [user] = users_at(shop.project.root, 1)
    assert shop.awaken([user, user], AT).wanted == 1


def test_nobody_to_awaken_is_no_error(shop: RoleGen) -> None:
    report = shop.awaken([], AT)
    assert (report.wanted, report.decided, report.left) == (0, 0, 0)


def test_a_stop_drains_and_the_same_call_goes_on(project: Path, tmp_path: Path) -> None:
    users = users_at(project, COUNT)
    twin = Path(shutil.copytree(project, tmp_path / "undisturbed"))
    stop = Event()

    def watch(stage: str, done: int, total: int) -> None:
        if stage == "awaken" and done >= 5:
            stop.set()

    with RoleGen.open(project) as shop:
        first = shop.awaken(users, AT, progress=watch, stop=stop)
        assert first.stopped and 5 <= first.decided < COUNT
        assert first.decided + first.left == COUNT
        assert len(shop.memory.finished(first.run)) == first.decided, "what was under way is finished and kept"
    with RoleGen.open(project) as shop:
        second = shop.awaken(users, AT)
        assert (second.earlier, second.decided, second.left, second.stopped) == (first.decided, first.left, 0, False)
        after = decisions(shop, users)
    with RoleGen.open(twin) as other:
        other.awaken(users, AT)
        assert decisions(other, users) == about(after)


def test_a_stop_when_all_is_done_is_no_stop(shop: RoleGen) -> None:
    users, stop = users_at(shop.project.root, 3), Event()
    report = shop.awaken(users, AT, progress=lambda _, done, total: stop.set() if done == total else None, stop=stop)
    assert (report.left, report.stopped) == (0, False)


def test_an_unknown_user_is_named_and_the_others_are_kept(shop: RoleGen) -> None:
    users = [*users_at(shop.project.root, 3), "nobody"]
    with pytest.raises(InputError, match="'nobody'"):
        shop.awaken(users, AT)
    assert {user for user, _ in shop.memory.finished(shop.assembly(AT).settings.run)} <= set(users[:3])
    assert shop.awaken(users[:3], AT).left == 0


def test_a_killed_llm_decision_goes_on_without_paying_twice(project: Path, tmp_path: Path) -> None:
    """Requests of a run whose server dies half way and of the run after it are those of one undisturbed run."""
    users = users_at(project, 4)
    twin = Path(shutil.copytree(project, tmp_path / "undisturbed"))

    def opened(folder: Path, url: str) -> RoleGen:
        return RoleGen.open(
            folder,
            overrides={
                "reasoner": {"kind": "llm", "think": "always"},
                "llm": {"model": "scripted", "base_url": url, "concurrency": 1, "retries": 0},
            },
        )

    with ScriptedLlm() as server:
        with opened(twin, server.url) as shop:
            wanted = shop.awaken(users, AT)
            expected = decisions(shop, users)
        asked = len(server.chats)
        stop = Event()

        def watch(stage: str, done: int, total: int) -> None:
            if done == 1:
                stop.set()

        with opened(project, server.url) as shop:
            first = shop.awaken(users, AT, progress=watch, stop=stop)
        with opened(project, server.url) as shop:
            second = shop.awaken(users, AT)
            assert decisions(shop, users) == about(expected)
        assert len(server.chats) - asked == asked == wanted.calls
    assert first.calls + second.calls == wanted.calls and first.tokens + second.tokens == wanted.tokens
