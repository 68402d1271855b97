"""Requests at a time: never more than there are places, and the decision that has come furthest goes first."""

from __future__ import annotations

import threading

from rolegen_agent.llm.slots import Slots
from rolegen_graphs.words import CallSite


def test_who_has_come_furthest_is_next() -> None:
    slots, order = Slots(1), list[str]()
    sites = {
        "new": CallSite(decision="a", round=1, node="reason"),
        "half way": CallSite(decision="b", round=1, node="reflect"),
        "second round": CallSite(decision="c", round=2, node="reason"),
    }
    waiting = threading.Semaphore(0)

    def ask(name: str) -> None:
        waiting.release()
        with slots.taken(sites[name]):
            order.append(name)

    with slots.taken(CallSite(decision="d", round=1, node="reason")):
        asking = [threading.Thread(target=ask, args=(name,)) for name in sites]
        for thread in asking:
            thread.start()
        for _ in asking:
            waiting.acquire()
        while len(slots._waiting) < len(sites):
            threading.Event().wait(0.001)
    for thread in asking:
        thread.join()
    assert order == ["second round", "half way", "new"]


def test_no_more_at_once_than_there_are_places() -> None:
    slots, site = Slots(3), CallSite(decision="a", round=1, node="reason")
    lock, now, most = threading.Lock(), 0, 0

    def ask() -> None:
        nonlocal now, most
        for _ in range(50):
            with slots.taken(site):
                with lock:
                    now += 1
                    most = max(most, now)
                with lock:
                    now -= 1

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert now == 0 and 1 <= most <= 3


def test_a_question_that_is_given_up_leaves_its_place_in_the_row() -> None:
    slots, site = Slots(1), CallSite(decision="a", round=1, node="reason")
    try:
        with slots.taken(site):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with slots.taken(site):
        assert not slots._waiting
