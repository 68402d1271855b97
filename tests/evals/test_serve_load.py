"""The small version of ``rolegen bench serve``, and what open-loop latencies are."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from rolegen_evals.bench import Order, run
from rolegen_evals.serving.load import Visitors, drive
from rolegen_evals.serving.shop import QUICK, draw_log

WHO = Visitors(["a", "b"], ["c"], ["x", "y"], datetime(2026, 3, 1, tzinfo=UTC))


def test_a_server_that_stalls_is_charged_for_all_who_came_meanwhile(httpserver: HTTPServer) -> None:
    gate, answered = threading.Lock(), list[float]()

    def one_at_a_time(_request: Request) -> Response:
        with gate:
            if not answered:
                time.sleep(1.0)  # the stall
            answered.append(time.monotonic())
            return Response('{"source": "popular", "late": false}', content_type="application/json")

    httpserver.expect_request("/slate").respond_with_handler(one_at_a_time)
    httpserver.expect_request("/events").respond_with_handler(one_at_a_time)
    taken = drive(httpserver.url_for("").rstrip("/"), WHO, mix="busy", rate=40, seconds=1, seed=3)
    assert len(taken) == len(answered)
    assert {one.status for one in taken} == {200}
    assert max(one.ms for one in taken) > 900
    # Whoever came during the stall waited for the rest of it: a loop that waits for each answer would have seen one slow one.
    assert sum(one.ms > 300 for one in taken) > len(taken) / 3


def test_the_made_up_log_has_dormant_people_and_all_items_in_stock() -> None:
    log = draw_log(QUICK)
    assert log["item"].n_unique() == QUICK.items
    assert set(log["behaviour"]) == {"view", "cart", "order"}
    assert log["time"].max() < datetime(2026, 3, 1, tzinfo=UTC)
    assert log.select("user", "item", "time", "behaviour").is_duplicated().sum() == 0


@pytest.mark.long
def test_the_small_benchmark_answers_everything(tmp_path: Path) -> None:
    result = run("serve", Order(progress=lambda stage, done, total: None, quick=True, work=tmp_path))
    for mix in ("serve", "busy"):
        assert result.figures[f"{mix}.errors.rolegen"] == 0
        assert result.figures[f"{mix}.p50_ms.rolegen"] <= result.figures[f"{mix}.p99_ms.rolegen"]
        assert result.figures[f"{mix}.share.remembered"] > 0
        assert result.figures[f"{mix}.share.reranked"] > 0
