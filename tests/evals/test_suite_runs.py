"""Runs of a suite on a small real shop, with and without an LLM over HTTP: repeated for nothing, resumed, compared, let in."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolegen_agent import RoleGen
from rolegen_errors import InputError
from rolegen_evals.suites import engine, graders
from rolegen_evals.suites.cases import build_cases, read_cases
from rolegen_evals.suites.decided import read_decided
from rolegen_evals.suites.graders import GRADERS, Graded
from rolegen_evals.suites.page import markdown, write_comparison
from rolegen_evals.suites.runner import compare_runs, evaluate
from rolegen_evals.suites.suite import CASES, SETTINGS, Suite, write_suite
from tests.support.scripted_llm import ScriptedLlm, answer
from tests.support.shop import AT, Command, Line, line, project, rolegen, trained

__all__ = ["line", "project", "rolegen", "trained"]
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
        assert first.decisions.keys() == first.values.keys() and all(one["slate"] for one in first.decisions.values())
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
    shown = [
        {case: json.loads(one.decision)["slate"] for case, one in read_decided(folder, set(before.values)).items()}
        for folder in (first, replayed)
    ]
    assert len(shown[0]) == COUNT and shown[0] == shown[1]


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

    with RoleGen.open(suite.parent) as shop:
        with monkeypatch.context() as full_moon:
            full_moon.setitem(graders.GRADERS, "grounding_rate", replace(usual, grade=grade))  # type: ignore[index]
            where, found = evaluate(shop, suite, name="x", cache=True, at_once=2, progress=False)
        assert found.failures == {unlucky: "grader grounding_rate: ValueError: the moon is in the wrong phase"}
        assert len(found.values) == COUNT - 1
        told = compare_runs(where, where)[3]
        assert "1 cases failed in x" in markdown(told, (found, found)) and unlucky in markdown(told, (found, found))
        page = write_comparison(where / "page.html", told, read_cases(suite / CASES), (found, found), (where, where))
        assert "wrong phase" in page.read_text("utf-8")
        monkeypatch.setattr(engine, "_taken", None)  # the decision stands: it is only graded again
        _, mended = evaluate(shop, suite, name="x", cache=True, at_once=2, progress=False)
    assert not mended.failures and len(mended.values) == COUNT


def test_a_grader_of_ones_own_is_named_by_its_module(
    suite: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "house_graders.py").write_text(
        "def length(graded):\n    return len(graded.decision.slate.items) / 100\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (suite / SETTINGS).write_text('graders = ["recall", "house_graders:length"]\n[primary]\nrecall = 0.1\n', "utf-8")
    with RoleGen.open(suite.parent) as shop:
        where, found = evaluate(shop, suite, name="own", cache=True, at_once=2, progress=False)
    assert {one["house_graders:length"] for one in found.values.values()} == {0.1}
    assert "house_graders:length" in markdown(compare_runs(where, where)[3])
    (suite / SETTINGS).write_text('graders = ["house_graders:width"]\n[primary]\n', "utf-8")
    with pytest.raises(InputError, match="house_graders:width"):
        Suite.read(suite)


def test_a_killed_run_goes_on_and_loses_no_finished_case(suite: Path, rolegen: Command) -> None:
    def lines() -> list[str]:
        files = list((suite / "runs").glob("*/decided.jsonl"))
        return files[0].read_text("utf-8").split("\n")[1:-1] if files else []

    with ScriptedLlm("slow", delay_s=0.1) as server:
        asks = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "none", "OPENAI_MODEL": "scripted"}
        # Without the cache nothing but what the run wrote down itself can save a question.
        command = (
            "eval",
            "run",
            str(suite),
            "--reasoner",
            "llm",
            "--no-cache",
            "--at-once",
            "2",
            "-p",
            str(suite.parent),
        )
        with rolegen.started(*command, environment=asks) as process:
            while len(lines()) < 2:
                assert process.poll() is None, process.communicate()
                time.sleep(0.02)
            process.kill()
        kept, asked = lines(), asked_of(server)
        assert 2 <= len(kept) < COUNT
        done = rolegen(*command, "--json", environment=asks, timeout=600)
        assert done.returncode == 0, done.stderr
        assert lines()[: len(kept)] == kept
        rest = [json.loads(line) for line in lines()[len(kept) :]]
        assert len(rest) == COUNT - len(kept)
        assert asked_of(server) - asked == sum(len(one["asked"]) for one in rest)
        assert json.loads(done.stdout)[0]["cases"] == COUNT


def test_a_failed_case_is_tried_again_by_the_same_command(suite: Path, endpoint: ScriptedLlm) -> None:
    with open_llm(suite, endpoint) as shop:
        endpoint.modes = ("good",) * 5 + ("bad_request",) * 2 + ("good",)
        _, partly = evaluate(shop, suite, name="x", cache=False, at_once=1, progress=False)
        assert 1 <= len(partly.failures) < COUNT and len(partly.values) == COUNT - len(partly.failures)
        assert all(len(why) < 400 and "unsupported value" in why for why in partly.failures.values())
        asked = asked_of(endpoint)
        _, whole = evaluate(shop, suite, name="x", cache=False, at_once=1, progress=False)
    assert not whole.failures and len(whole.values) == COUNT
    assert {case: partly.values[case] for case in partly.values} == {case: whole.values[case] for case in partly.values}
    assert 0 < asked_of(endpoint) - asked <= 10 * len(partly.failures)


def judging(body: dict[str, object]) -> str:
    """A judge that sees no fault but paths that are alike, and otherwise what the scripted LLM says."""
    if '"roles_fit": true' not in str(body):
        return json.dumps(answer(body))
    paths = re.findall(r"^  0\. (\w+ in [\w ]+),", str(body["messages"][1]["content"]), re.M)  # type: ignore[index]
    said = {"why": "looked", "roles_fit": True, "intent_fits": True, "paths_follow": True}
    return json.dumps({**said, "paths_differ": len({*paths}) == len(paths)})


def test_a_judge_is_asked_only_where_it_is_named_and_its_agreement_is_measured(
    suite: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    (suite / SETTINGS).write_text('graders = ["judge", "tokens"]\n[primary]\njudge = 0.1\n', "utf-8")
    with ScriptedLlm(answers=judging) as server:
        for name, value in (("BASE_URL", server.url), ("API_KEY", "none"), ("MODEL", "scripted")):
            monkeypatch.setenv(f"OPENAI_{name}", value)
        shop = ("-p", str(suite.parent))
        measured = json.loads(line("eval", "judge", "--json", *shop).stdout)
        # 30 examples, a fault planted in 6 of them for each criterion: who sees none agrees with 24, by chance.
        assert measured["examples"] == 30 and measured["invalid"] == 0
        assert measured["exact"]["roles_fit"] == pytest.approx(24 / 30) and measured["kappa"]["roles_fit"] == 0
        assert measured["exact"]["paths_differ"] == 1 and measured["kappa"]["paths_differ"] == 1
        assert 0 < measured["kappa"]["all"] < 1
        done = line("eval", "run", str(suite), *shop)
        assert done.returncode == 0, done.stderr
        assert "kappa" in done.stdout
        [where] = (suite / "runs").glob("*/run.json")
        run = json.loads(where.read_text("utf-8"))
        assert run["judge"]["prompt"].startswith("1 ") and run["judge"]["kappa"] == measured["kappa"]
        assert all(0 < one["judge"] <= 1 and one["tokens"] == 0 for one in run["values"].values())
        asked = asked_of(server)
        replayed = line("eval", "run", str(suite), "--replay", str(where.parent / "answers.jsonl"), *shop)
        assert replayed.returncode == 0 and asked_of(server) == asked


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
    told = line(
        "eval", "compare", "default", "mine", "--suite", "other", "--report", "page.html", "--markdown", "table.md"
    )
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
