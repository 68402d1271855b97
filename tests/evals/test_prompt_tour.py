"""What README and docs/evals.md tell a newcomer to type, typed: from a changed sentence to a page, and from a planted shop to a gate."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, line, project, trained

__all__ = ["line", "project", "trained"]
SMALL = {"EPOCHS": "1", "WIDTH": "16", "MAX_RETURNS": "200", "MAX_HINTS": "20", "MAX_READ": "50", "MAX_SPELLS": "200"}


def commands(text: str, after: str) -> list[list[str]]:
    """The commands of the first bash block after a heading."""
    block = re.search(r"^```bash\n(.*?)^```", text[text.index(after) :], re.M | re.S)
    assert block is not None
    return [shlex.split(one, comments=True)[1:] for one in block[1].splitlines() if one.startswith("rolegen")]


def test_four_commands_lead_from_a_sentence_to_a_page(
    root: Path, project: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(line.folder / "cache"))
    typed = commands((root / "README.md").read_text("utf-8"), "## Change a prompt")
    assert len(typed) <= 4 and AT in typed[1]
    with ScriptedLlm() as server:
        for name, value in (("BASE_URL", server.url), ("API_KEY", "none"), ("MODEL", "scripted")):
            monkeypatch.setenv(f"OPENAI_{name}", value)
        for number, one in enumerate(typed):
            done = line(*one, *(["--count", "6"] if one[:2] == ["eval", "cases"] else []))
            assert done.returncode == 0, (one, done.stderr)
            if number == 0:
                file = Path(done.stdout.split()[1])
                file.write_text(file.read_text("utf-8").replace("# User\n", "Be brief.\n\n# User\n", 1), "utf-8")
    assert "no evidence" in done.stdout
    page = (line.folder / "page.html").read_text("utf-8")
    assert "my-prompts against default: no evidence" in page and "Prompts that differ: reason" in page


def test_a_planted_shop_gives_cases_with_roles_and_a_gate(
    root: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SMALL.items():
        monkeypatch.setenv(f"ROLEGEN_BACKBONE__{name}", value)
    typed = commands((root / "docs/evals.md").read_text("utf-8"), "--world staged")
    for one in typed:
        done = line(*one)
        assert done.returncode == 0, (one, done.stderr)
    assert "not worse on 20 cases" in done.stdout
    cases = [json.loads(text) for text in (line.folder / "planted/cases.jsonl").read_text("utf-8").splitlines()]
    assert len(cases) == 20 and all(case["roles"] for case in cases)
    shown = [{str(event["event"]) for event in case["observation"]["trajectory"]["events"]} for case in cases]
    assert all(case["roles"].keys() <= events for case, events in zip(cases, shown, strict=True))
    [run] = (line.folder / "planted/runs").glob("usual-*/run.json")
    told = [one.get("role_accuracy") for one in json.loads(run.read_text("utf-8"))["values"].values()]
    assert any(told) and all(one is None or 0 <= one <= 1 for one in told)
    again = line(*typed[0])
    assert again.returncode == 0
    assert [
        json.loads(text)["case"] for text in (line.folder / "planted/cases.jsonl").read_text("utf-8").splitlines()
    ] == [case["case"] for case in cases]
    assert "another planted world" in line("eval", "cases", "planted", "--world", "pressed").stderr
