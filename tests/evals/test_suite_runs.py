"""Runs of a suite on a small real shop, with and without an LLM over HTTP: repeated for nothing, resumed, compared, let in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolegen_agent import RoleGen
from rolegen_errors import InputError
from rolegen_evals.suites import engine
from rolegen_evals.suites.cases import build_cases, read_cases
from rolegen_evals.suites.graders import GRADERS, Graded
from rolegen_evals.suites.runner import compare_runs, evaluate
from rolegen_evals.suites.suite import CASES, SETTINGS, write_suite
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, line, project, trained

__all__ = ["line", "project", "trained"]
COUNT = 6


@pytest.fixture
def suite(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A suite of few cases in a trained project."""
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(project / "cache"))
    folder = project / "suite"
    with RoleGen.open(project) as shop:
        write_suite(folder, build_cases(shop, AT, count=COUNT))
    return folder


@pytest.fixture
def endpoint() -> Iterator[ScriptedLlm]:
    with ScriptedLlm() as server:
        yield server


def asked_of(server: ScriptedLlm) -> int:
    return sum(one.method == "POST" for one in server.asked)


def open_llm(suite: Path, server: ScriptedLlm, prompts: Path | None = None) -> RoleGen:
    reasoner = {"kind": "llm", "prompts": str(prompts) if prompts else None}
    llm = {"model": "scripted", "base_url": server.url, "api_key": "none"}
    return RoleGen.open(suite.parent, overrides={"reasoner": reasoner, "llm": llm})


def run(shop: RoleGen, suite: Path, name: str, *, cache: bool = False, replay: Path | None = None) -> Path:
    return evaluate(shop, suite, name=name, cache=cache, at_once=4, progress=False, replay=replay)[0]


def test_cases_are_the_same_whoever_else_is_dormant(suite: Path) -> None:
    cases = read_cases(suite / CASES)
    assert len(cases) == COUNT and sum(bool(case.bought) for case in cases) == COUNT // 2
    assert all(event.at < case.at for case in cases for event in case.observation.trajectory.events)
    with RoleGen.open(suite.parent) as shop:
        more = build_cases(shop, AT, count=2 * COUNT)
    assert {case.case for case in cases} <= {case.case for case in more}


def test_the_evidence_reasoner_is_graded_offline_and_a_finished_run_is_not_repeated(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RoleGen.open(suite.parent) as shop:
        where, first = evaluate(shop, suite, name="", cache=True, at_once=4, progress=False)
        assert first.name == "evidence" and len(first.values) == COUNT and not first.failures
        assert all(0 <= one["grounding_rate"] <= 1 for one in first.values.values())
        assert sum("recall" in one for one in first.values.values()) == COUNT // 2
        assert all("validity" not in one for one in first.values.values())
        monkeypatch.setattr(engine, "_taken", None)  # whoever decides again fails
        assert evaluate(shop, suite, name="", cache=True, at_once=4, progress=False) == (where, first)


def test_a_changed_prompt_is_another_run_equal_requests_come_from_the_cache_and_answers_can_be_replayed(
    suite: Path, endpoint: ScriptedLlm, line: Line, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    assert line("prompts", "new", "reflect", "--note", "Bolder", "--prompts", str(mine)).returncode == 0
    with open_llm(suite, endpoint) as shop:
        first = run(shop, suite, "first", cache=True)
        paid = asked_of(endpoint)
        again = run(shop, suite, "again", cache=True)
        assert paid >= 2 * COUNT and asked_of(endpoint) == paid
    with open_llm(suite, endpoint, mine) as shop:
        changed = run(shop, suite, "changed", cache=True)
    assert changed.name.split("-")[1] != first.name.split("-")[1] == again.name.split("-")[1]
    before, after, _, found = compare_runs(first, again)
    assert before.values.keys() == after.values.keys() and found.verdict == "no evidence"
    assert before.prompts["reason"].startswith("2 ")
    asked = asked_of(endpoint)
    with open_llm(suite, endpoint) as shop:
        replayed = run(shop, suite, "replayed", replay=first / "answers.jsonl")
    assert asked_of(endpoint) == asked
    told = {
        name: json.loads((folder / "run.json").read_text("utf-8")) for name, folder in (("a", first), ("b", replayed))
    }
    shown = [{case: one["slate"] for case, one in run["decisions"].items()} for run in told.values()]
    assert shown[0] == shown[1]


def test_a_request_that_was_never_recorded_fails_its_case_and_says_so(suite: Path, endpoint: ScriptedLlm) -> None:
    with open_llm(suite, endpoint) as shop:
        first = run(shop, suite, "first")
        lines = (first / "answers.jsonl").read_text("utf-8").splitlines(keepends=True)
        (first / "answers.jsonl").write_text("".join(lines[1:]), "utf-8")
        _, partly = evaluate(
            shop, suite, name="r", cache=False, at_once=2, progress=False, replay=first / "answers.jsonl"
        )
    assert len(partly.failures) >= 1 and len(partly.values) == COUNT - len(partly.failures)
    assert all("no answer is recorded" in why for why in partly.failures.values())


def test_a_grader_that_raises_fails_its_case_and_not_the_run(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlucky = read_cases(suite / CASES)[2].case
    usual = GRADERS["grounding_rate"]

    def grade(graded: Graded) -> float | None:
        if graded.case.case == unlucky:
            raise ValueError("the moon is in the wrong phase")
        return usual.grade(graded)

    monkeypatch.setitem(engine.GRADERS, "grounding_rate", replace(usual, grade=grade))  # type: ignore[index]
    with RoleGen.open(suite.parent) as shop:
        _, found = evaluate(shop, suite, name="x", cache=True, at_once=2, progress=False)
    assert list(found.failures) == [unlucky] and "wrong phase" in found.failures[unlucky]
    assert len(found.values) == COUNT - 1


def test_cases_of_another_training_are_refused(suite: Path) -> None:
    text = (suite / CASES).read_text("utf-8")
    fingerprint = read_cases(suite / CASES)[0].artefacts
    (suite / CASES).write_text(text.replace(fingerprint, "0badcafe"), "utf-8")
    with RoleGen.open(suite.parent) as shop, pytest.raises(InputError, match="training 0badcafe"):
        run(shop, suite, "x")


def test_the_command_line_goes_from_a_log_to_a_verdict_and_a_gate(
    suite: Path, endpoint: ScriptedLlm, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("BASE_URL", endpoint.url), ("API_KEY", "none"), ("MODEL", "scripted")):
        monkeypatch.setenv(f"OPENAI_{name}", value)
    shop = ("-p", str(suite.parent))
    assert line("eval", "cases", "other", "--at", AT, "--count", "4", *shop).returncode == 0
    assert line("prompts", "new", "reason", "--note", "Bolder", "--prompts", "mine").returncode == 0
    done = line(
        "eval", "run", "other", "--reasoner", "llm", "--prompts", "default", "--prompts", "mine", "--json", *shop
    )
    assert done.returncode == 0, done.stderr
    first, second = (one["folder"] for one in json.loads(done.stdout))
    told = line("eval", "compare", first, second, "--report", "page.html", "--markdown", "table.md")
    assert "no evidence" in told.stdout and (line.folder / "table.md").read_text("utf-8") in told.stdout
    assert "Cases that changed most" in (line.folder / "page.html").read_text("utf-8")
    assert line("eval", "gate", second, "--baseline", first).returncode == 0
    made = json.loads((Path(line.folder) / second / "run.json").read_text("utf-8"))
    for values in made["values"].values():
        values["validity"] = 0.5
    (Path(line.folder) / second / "run.json").write_text(json.dumps(made), "utf-8")
    refused = line("eval", "gate", second, "--baseline", first)
    assert refused.returncode == 1 and "validity: 1 became 0.5" in refused.stderr
    (line.folder / "other" / SETTINGS).write_text('graders = ["recall"]\n[primary]\n', "utf-8")
    assert "the suite has changed" in line("eval", "compare", first, second).stderr
