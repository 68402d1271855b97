"""A decision that was traced leads from its page to the viewer that the project names."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from starlette.testclient import TestClient

from rolegen_agent.memory import open_memory
from rolegen_agent.pages import create_app
from tests.support.decisions import make_decision

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_the_page_of_a_traced_decision_links_to_its_trace(tmp_path: Path) -> None:
    file = tmp_path / "memory.sqlite"
    with open_memory(file) as memory:
        traced, plain = make_decision("1"), make_decision("2", seed=2)
        for one in (traced, plain):
            memory.record(one)
        with sqlite3.connect(file) as direct:
            direct.execute("UPDATE decisions SET trace_id = ? WHERE decision = ?", (TRACE, traced.decision))
        told = TestClient(create_app(memory, trace_url="http://127.0.0.1:6006/traces/{trace_id}?tab=1&view=2"))
        assert (
            f'href="http://127.0.0.1:6006/traces/{TRACE}?tab=1&amp;view=2"'
            in told.get(f"/decisions/{traced.decision}").text
        )
        assert "6006" not in told.get(f"/decisions/{plain.decision}").text
        bare = TestClient(create_app(memory)).get(f"/decisions/{traced.decision}").text
        assert TRACE in bare and f"{TRACE}?" not in bare
