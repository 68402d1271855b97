"""``rolegen bench reasoning`` from end to end, small: figures of every part, and nobody lost to a broken endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rolegen_evals.bench import Order, run
from rolegen_evals.reasoning.scripted import FAILURES
from tests.support.scripted_llm import ScriptedLlm


@pytest.mark.slow
@pytest.mark.long
def test_a_quick_run_measures_all_parts_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    order = Order(progress=lambda stage, done, total: seen.append(stage), quick=True, work=tmp_path)
    with ScriptedLlm("good") as server:
        monkeypatch.setenv("OPENAI_MODEL", "scripted")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        found = run("reasoning", order).figures
    assert server.chats, "the endpoint that the environment names is measured beside the scripted minds"
    assert found["effects.spearman.dr"] > found["effects.spearman.permuted"]
    assert 0 < found["roles.macro_f1.evidence"] <= 1
    assert 0 < found["speed.users_read.update"] < 1 and 0 < found["speed_orders.users_read.update"] < 1
    assert found["speed.seconds.anew"] > 0 and found["speed.cpu_ratio.update"] > 0
    for failure in FAILURES:
        assert found[f"broken.finished.{failure}"] == 1, failure
        assert found[f"broken.told.{failure}"] == 1, failure
    assert sum(found[f"broken.requests_failed.{failure}"] for failure in FAILURES) > 0
    assert found["roles_llm.alone.perfect"] == 1 > found["roles_llm.alone.adversarial"]
    for mind in ("perfect", "random", "adversarial", "llm", "evidence", "backbone"):
        assert 0 <= found[f"slate.recall10.{mind}"] <= 1
    worst = found["slate_worst.recall10.perfect"]
    assert worst == pytest.approx(found["slate_change.recall10.perfect"]), "one shop is its own worst"
    assert found["fusion.log_loss.fitted_perfect"] < found["fusion.log_loss.default_perfect"]

    seen.clear()
    assert run("reasoning", order).figures == found and not seen, "finished parts are read back"
    kept = json.loads((tmp_path / "roles.json").read_text("utf-8"))
    (tmp_path / "roles.json").write_text(json.dumps({**kept, "key": "other code"}), "utf-8")
    run("reasoning", order)
    assert set(seen) == {"roles"}, "what other code measured is measured again"
