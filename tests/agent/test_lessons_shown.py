"""What people see of lessons: the commands, the story of a decision, its page."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from rolegen_agent.facade import RoleGen
from rolegen_agent.report.customer import customer_section
from rolegen_agent.story import story
from rolegen_graphs.words import Decision
from tests.agent.test_lessons import HORIZON, START, month
from tests.support.decisions import make_decision
from tests.support.shop import Line, write_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose memory holds decisions with outcomes; nothing is ingested or trained."""
    project = write_project(tmp_path / "shop", pl.DataFrame({"CustomerID": [1]}))
    with RoleGen.open(project) as shop:
        month(shop.memory, START, {"season": 0.6, "rebuy": 0.1})
    return project


def test_lessons_are_learnt_listed_and_shown(folder: Path, line: Line) -> None:
    at = str((START + HORIZON).date())
    early = line("lessons", "learn", "--at", "2011-02-01", "--project", str(folder))
    assert early.returncode == 0 and "120, horizon still open" in early.stdout
    done = line("lessons", "learn", "--at", at, "--project", str(folder), "--json")
    report = json.loads(done.stdout)
    assert (report["decisions"], len(report["born"]), report["evidence"]) == (120, 2, 240)
    listed = line("lessons", "list", "--project", str(folder))
    assert "Lead with the path 'season'" in listed.stdout and "90 / 30" in listed.stdout
    assert "0 of 0 lessons" in line("lessons", "list", "--at", at, "--project", str(folder)).stdout
    shown = line("lessons", "show", report["born"][0][:6], "--project", str(folder))
    assert "shown to 0 decisions" in shown.stdout and "by evidence" in shown.stdout
    assert "60 decisions that led with it" in shown.stdout.replace("\n", " ")
    wrong = line("lessons", "show", "zzz", "--project", str(folder))
    assert wrong.returncode == 1 and "'zzz' is no lesson" in wrong.stderr and "lessons list" in wrong.stderr


def test_preferences_are_exported_and_what_is_left_out_is_said(folder: Path, line: Line) -> None:
    nothing = line("export-preferences", "--project", str(folder))
    assert nothing.returncode == 1 and "nothing to write" in nothing.stderr
    done = line("export-preferences", "--sft", str(folder / "sft.jsonl"), "--project", str(folder))
    assert done.returncode == 0 and "120, decision without an LLM" in done.stdout
    assert (folder / "sft.jsonl").read_text() == ""


def test_a_trace_tells_which_lessons_in_which_version_it_was_shown() -> None:
    decision = make_decision()
    assert customer_section(decision, None).lessons == (
        "lesson L1 of 2011-05-31 (0 outcomes for it, 0 against): be early",
    )
    told = text_of(decision)
    assert "What earlier outcomes taught" in told and "lesson L1 of 2011-05-31" in told
    seen = decision.observation.model_copy(update={"lessons": (), "lessons_withheld": True})
    assert "withheld from this decision" in text_of(decision.model_copy(update={"observation": seen}))
    bare = decision.observation.model_copy(update={"lessons": ()})
    assert "outcomes taught" not in text_of(decision.model_copy(update={"observation": bare}))


def text_of(decision: Decision) -> str:
    console = Console(width=200, file=io.StringIO())
    with console.capture() as told:
        console.print(story(decision, None, {}))
    return told.get()
