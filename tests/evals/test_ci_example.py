"""The example workflow: its commands run in a repository as its README describes it, without endpoint and without key."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, line, project, trained

__all__ = ["line", "project", "trained"]


def commands(root: Path) -> tuple[list[list[str]], dict[str, str]]:
    """The workflow's own commands in order, and its environment."""
    job = yaml.safe_load((root / "examples/ci/prompt-gate.yml").read_text("utf-8"))["jobs"]["gate"]
    steps = [shlex.split(step["run"]) for step in job["steps"] if "run" in step]
    return [step[1:] for step in steps if step[0] == "rolegen"], job["env"]


def test_the_workflow_replays_answers_and_stops_a_worse_prompt(
    root: Path, project: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, (asked, environment) = line.folder, commands(root)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(here / "cache"))
    monkeypatch.setenv("OPENAI_MODEL", environment["OPENAI_MODEL"])
    assert [step[:2] for step in asked] == [["prompts", "lint"], ["eval", "run"], ["eval", "gate"]]
    assert line("eval", "cases", "suite", "--at", AT, "--count", "4", "-p", "shop").returncode == 0
    assert line("prompts", "new", "reason", "--note", "Bolder", "--prompts", "my-prompts").returncode == 0
    [recording] = re.findall(r"^rolegen .*", (root / "examples/ci/README.md").read_text("utf-8"), re.M)
    with ScriptedLlm(models=[environment["OPENAI_MODEL"]]) as server, monkeypatch.context() as keyed:
        keyed.setenv("OPENAI_BASE_URL", server.url)
        keyed.setenv("OPENAI_API_KEY", "none")
        done = line(*shlex.split(recording)[1:])
        assert done.returncode == 0, done.stderr
        # The address is part of a configuration, and CI knows none: what counts is what was asked and answered.
    [recorded] = (here / "suite/runs").glob("candidate-*")
    (here / "ci").mkdir()
    shutil.copy(recorded / "answers.jsonl", here / "ci/answers.jsonl")
    shutil.copy(recorded / "run.json", here / "ci/baseline.json")
    shutil.rmtree(here / "suite/runs")
    for step in asked:
        done = line(*step)
        assert done.returncode == 0, (step, done.stderr)
    assert "not worse on 4 cases" in done.stdout
    prompt = next((here / "my-prompts/reason").glob("*.md"))
    prompt.write_text(prompt.read_text("utf-8").replace("# User\n", "Never mind.\n\n# User\n", 1), "utf-8")
    assert line(*asked[1]).returncode == 0
    gated = line(*asked[2])
    assert gated.returncode == 1 and "no answer is recorded" in gated.stderr
