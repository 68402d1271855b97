"""The main job on the bundled log, in its quick form: its figures can be computed again from the database alone."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Watched, chromium
from tests.support.shop import Command

SYSTEMS = ("rolegen", "backbone", "frequency", "popularity")
METRICS = ("hit1", "recall10", "ndcg10", "category_coverage")
HIT_AT_1 = """
SELECT avg(EXISTS (SELECT 1 FROM json_each(o.items) AS bought WHERE bought.value = s.item)), count(*)
FROM outcomes AS o JOIN slate_items AS s USING (decision)
WHERE o.ordered_at IS NOT NULL AND s.policy = ? AND s.rank = 1
"""
RECALL_AT_10 = """
SELECT avg(hits * 1.0 / min(10, bought)) FROM (
  SELECT (SELECT count(*) FROM slate_items AS s JOIN json_each(o.items) AS b ON b.value = s.item
          WHERE s.decision = o.decision AND s.policy = ? AND s.rank <= 10) AS hits,
         json_array_length(o.items) AS bought
  FROM outcomes AS o WHERE o.ordered_at IS NOT NULL)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def command(python: str, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(python, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def first(command: Command) -> dict[str, Any]:
    """The JSON of the first run."""
    done = command("demo", "shop", "--quick", "--json", timeout=1200)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar outside of a terminal"
    return dict(json.loads(done.stdout))


def shape(result: dict[str, Any]) -> None:
    """What every benchmark writes."""
    assert set(result) >= {"name", "commit", "machine", "seconds", "figures"}
    wanted = {f"returned.{metric}.{system}" for metric in METRICS for system in SYSTEMS}
    ends = {f"{metric}_{end}" for metric in ("hit1", "recall10", "ndcg10") for end in ("low", "high")}
    intervals = {f"returned_interval.{end}.{system}" for end in ends for system in SYSTEMS}
    others = [system for system in SYSTEMS if system != "rolegen"]
    ahead = {f"ahead.{metric}.{system}" for metric in ("hit1", "recall10", "ndcg10") for system in others}
    ahead |= {f"ahead_interval.{end}.{system}" for end in ends for system in others}
    assert set(result["figures"]) == wanted | intervals | ahead | {"returned.customers.all"}
    assert all(0 <= result["figures"][key] <= 1 for key in wanted) and result["name"] == "demo"


def test_the_figures_are_those_of_the_database(command: Command, first: dict[str, Any]) -> None:
    shape(first)
    figures = first["figures"]
    assert first["memory"].endswith("shop/.rolegen/memory.sqlite")
    with closing(sqlite3.connect(command.folder / "shop" / ".rolegen" / "memory.sqlite")) as memory:
        for system in SYSTEMS:
            hit, customers = memory.execute(HIT_AT_1, (system,)).fetchone()
            assert figures[f"returned.hit1.{system}"] == pytest.approx(hit, abs=1e-12)
            assert figures["returned.customers.all"] == customers > 5
            [recall] = memory.execute(RECALL_AT_10, (system,)).fetchone()
            assert figures[f"returned.recall10.{system}"] == pytest.approx(recall, abs=1e-12)
        [late] = memory.execute("SELECT count(*) FROM decisions WHERE at <> '2011-09-01 00:00:00.000000'").fetchone()
    assert late == 0


def test_the_same_command_again_does_nothing_again_and_says_the_same(command: Command, first: dict[str, Any]) -> None:
    artefacts = sorted((command.folder / "shop" / ".rolegen" / "artefacts").rglob("*"))
    before = {file: file.stat().st_mtime_ns for file in artefacts}
    done = command("demo", "shop", "--quick", timeout=1200)
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in artefacts} == before, "nothing was learnt again"
    told = " ".join(done.stdout.split())
    assert "no LLM was called" in told and "came back within 90 days" in told
    assert done.stdout.count("customer ") >= 3 and "What they really did" in done.stdout
    for system in SYSTEMS:
        assert f"{first['figures'][f'returned.hit1.{system}']:.3f}" in done.stdout
    for said in ("trace database", "report ", "rolegen explain", "--reasoner llm"):
        assert said in done.stdout


def test_decisions_that_others_asked_for_in_the_same_project_change_no_figure(
    command: Command, first: dict[str, Any]
) -> None:
    place = ("--project", "shop")
    users = [row["user"] for row in json.loads(command("dormant", "--at", "2011-09-01", "--json", *place).stdout)]
    more = command("awaken", "--at", "2011-09-01", "--user", users[1], "--user", users[2], "--json", *place)
    assert json.loads(more.stdout)["decided"] == 2
    done = command("demo", "shop", "--quick", "--json", timeout=1200)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["figures"] == first["figures"]


def test_the_report_opens_in_a_browser_without_a_fault(first: dict[str, Any]) -> None:
    with chromium() as browser:
        page = browser.new_page()
        watched = Watched(page)
        page.goto(Path(first["report"]).as_uri())
        assert "RoleGen" in page.title()
        text = page.inner_text("body")
        page.close()
    assert watched.faults == []
    assert "no LLM was called" in text and f"{first['figures']['returned.hit1.rolegen']:.3f}" in text


@pytest.mark.long
def test_the_benchmark_writes_the_one_language(command: Command, python: str) -> None:
    file = command.folder / "out" / "figures.json"
    done = command("bench", "demo", "--quick", "--json", str(file), timeout=1200)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text("utf-8"))
    shape(result)
    assert set(result) == {"name", "commit", "machine", "seconds", "figures"}
    assert isinstance(done, subprocess.CompletedProcess) and "hit1" in done.stdout
