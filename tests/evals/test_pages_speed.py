"""``rolegen bench pages``: a small generated memory contradicts nothing, and every page of it answers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from rolegen_agent.memory import open_memory
from rolegen_evals.bench import Order
from rolegen_evals.bench import run as bench
from rolegen_evals.browsing import benchmark, copies
from rolegen_graphs.keys import decision_id

pytest_plugins = ["tests.support.postgres"]
DECISIONS = 300


@pytest.mark.long
def test_copies_are_decisions_like_others_and_every_page_of_them_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    urls = {"sqlite": f"sqlite:///{tmp_path / 'pages.sqlite'}", "postgresql": postgres_url}
    monkeypatch.setattr(benchmark, "_databases", lambda work, sizes: nullcontext(urls))
    monkeypatch.setattr(benchmark, "QUICK", {"postgresql": DECISIONS, "sqlite": DECISIONS})
    monkeypatch.setattr(copies, "RUN_SIZE", 20)  # so that so few have runs of both kinds
    monkeypatch.setattr(copies, "DETAILED_EVERY", 1)
    result = bench("pages", Order(progress=lambda stage, done, total: None, quick=True, work=tmp_path))
    for name in urls:
        for page in ("overview", "overview_deep", "overview_text", "user", "decision", "decision_llm", "prompts"):
            assert 0 < result.figures[f"{page}.p50_ms.{name}"] <= result.figures[f"{page}.p95_ms.{name}"]
    with open_memory(urls["sqlite"]) as memory:
        found = {(one.check, one.what) for one in memory.verify()}
        # The made-up ranker names the last candidate of an item where the check wants the first.
        assert {what for what in found if what[0] != "reasons of slate items"} == set()
        for number in (7, 199):
            kind, run, at = copies.run_of(number)
            one = memory.get(decision_id(run, copies.user_of(number), at))
            assert (one.user, one.at) == (copies.user_of(number), at)
            assert (one.reasoner == "evidence") == (kind == "evidence")
            assert one.slate.items and one.slate_without_reasoning.items and one.rounds[0].candidates
        assert len(memory.finished(copies.run_of(7)[1])) == 20
