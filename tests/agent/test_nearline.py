"""Nearline runs: export, a batch that a scripted server answers, import, again and again, until everybody is decided."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from rolegen_agent.facade import RoleGen
from rolegen_agent.llm.usage import Spending
from rolegen_agent.memory import Memory
from rolegen_agent.memory.calls import OUTSTANDING
from rolegen_errors import InputError, ProjectError
from tests.support.decisions import AT as WHEN
from tests.support.decisions import make_call, make_decision
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import AT, Line, users_at

pytest_plugins = ["tests.support.postgres"]

NOWHERE = "http://127.0.0.1:9/v1"
"""nothing listens there: whoever sends anything fails"""
COUNT = 5


def opened(folder: Path, url: str = NOWHERE, **more: dict[str, Any]) -> RoleGen:
    llm = {
        "model": "scripted",
        "base_url": url,
        "retries": 1,
        "input_usd_per_million": 2.0,
        "output_usd_per_million": 8.0,
        "batch_price_share": 0.5,
        "seed": 7,
        "extra_body": {"reasoning_effort": "low"},
        **more.pop("llm", {}),
    }
    return RoleGen.open(folder, overrides={"reasoner": {"kind": "llm"}, "llm": llm, **more})


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def answers(server: ScriptedLlm, requests: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """What the Batch API does: each body to the endpoint that it names."""
    root = server.url.removesuffix("/v1")
    for one in requests:
        sent = Request(root + one["url"], json.dumps(one["body"]).encode(), method=one["method"])
        with urlopen(sent) as got:
            response = {"status_code": got.status, "request_id": "r", "body": json.load(got)}
        yield {"id": "batch_req_1", "custom_id": one["custom_id"], "response": response, "error": None}


def texts(values: Iterable[Any]) -> list[str]:
    return sorted(json.dumps(value, sort_keys=True) for value in values)


def write(file: Path, results: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(one) + "\n" for one in results), "utf-8")
    return file


def plain(value: Any, number: Callable[[float], Any] = float) -> Any:
    """A decision without its run's name; ``number`` is for what depends in its last bits on who was ranked beside."""
    if isinstance(value, dict):
        return {key: plain(one, number) for key, one in value.items() if key not in ("run", "decision")}
    if isinstance(value, list):
        return [plain(one, number) for one in value]
    return number(value) if isinstance(value, float) else value


def test_a_nearline_run_decides_as_an_online_run_and_connects_to_nothing(project: Path, tmp_path: Path) -> None:
    twin = Path(shutil.copytree(project, tmp_path / "online"))
    users, file = users_at(project, COUNT), tmp_path / "batch.jsonl"
    with ScriptedLlm() as server, opened(twin, server.url) as shop:
        online = shop.awaken(users, AT)
        wanted = [shop.trace(user).model_dump(mode="json") for user in users]
        sent = [asked.body for asked in server.chats]
    written: list[dict[str, Any]] = []
    paid, rounds = 0.0, 0
    with ScriptedLlm() as server:
        while True:
            with opened(project) as shop:
                report = shop.export_batch(users, AT, file)
                assert report.requests == len(lines(file)) and report.left == report.waiting
                assert len(shop.memory.finished(report.run)) == report.earlier + report.decided
                assert shop.memory.usage(report.run).outstanding == report.requests
                assert shop.forecast(users, AT).outstanding == report.requests
            if not report.requests:
                break
            again = file.read_bytes()
            with opened(project) as shop:
                assert shop.export_batch(users, AT, file).requests == report.requests
                assert file.read_bytes() == again, "what is outstanding is written again, and reserved once"
            written += lines(file)
            results = write(tmp_path / "results.jsonl", reversed(list(answers(server, lines(file)))))
            with opened(project) as shop:
                done = shop.import_batch(results)
                assert (done.lines, done.answered, done.failed, done.bad) == (report.requests, report.requests, 0, 0)
                assert shop.import_batch(results).known == report.requests, "reading it twice changes nothing"
            paid, rounds = paid + (done.cost_usd or 0.0), rounds + 1
    assert rounds >= 2 and report.left == 0 and report.fallbacks == 0
    with opened(project) as shop:
        found = [shop.trace(user).model_dump(mode="json") for user in users]
        used, spent = shop.memory.usage(report.run), shop.memory.spent(report.run)
        assert shop.awaken(users, AT).earlier == COUNT
    assert plain(found) == plain(wanted, lambda value: pytest.approx(value, rel=1e-4, abs=1e-6))
    assert len({one["custom_id"] for one in written}) == len(written)
    assert all((one["method"], one["url"]) == ("POST", "/v1/chat/completions") for one in written)
    bodies = [{name: value for name, value in body.items() if name != "stream"} for body in sent]
    assert texts(one["body"] for one in written) == texts(bodies), "the very requests of the online run"
    assert written[0]["body"]["reasoning_effort"] == "low" and written[0]["body"]["seed"] == 7
    assert used.input_tokens + used.output_tokens == online.tokens == spent.tokens
    assert used.outstanding == 0 and spent.calls == online.calls == len(written)
    assert online.cost_usd is not None
    assert used.cost_usd == pytest.approx(online.cost_usd / 2) == pytest.approx(spent.usd) == pytest.approx(paid)


def test_two_imports_of_one_file_settle_its_budget_once(memory: Memory) -> None:
    key = memory.begin("demo", "ann", WHEN)
    for number in range(20):
        asked = make_call(
            key, request_hash=f"h{number}", raw="", error=OUTSTANDING, input_tokens=100, output_tokens=900
        )
        memory.record_call(asked.model_copy(update={"cost_usd": 1.0}))
        memory.spend("demo", key, Spending(1, 1000, 1.0))
    memory.record(make_decision("ann", WHEN))  # answered without: lists show what its calls cost all the same
    done = {"raw": "{}", "error": "", "input_tokens": 90, "output_tokens": 10, "cost_usd": 0.25}
    found = [call.model_copy(update=done) for call in memory.calls(decision=key)]
    with ThreadPoolExecutor(4) as pool:
        settled = [list(pool.map(lambda call: memory.settle_call(call, "demo"), [one] * 4)) for one in found]
    assert [sum(each) for each in settled] == [1] * 20
    assert memory.spent("demo") == memory.spent("demo", key) == Spending(20, 2000, 5.0)
    derived = {"llm_spending", "digests", "decision_days", "prompt_days"}
    assert not [one for one in memory.verify() if one.table in derived]


def test_lines_that_fail_are_asked_again_and_given_up_in_the_end(project: Path, tmp_path: Path) -> None:
    [user] = users_at(project, 1)
    file, results = tmp_path / "batch.jsonl", tmp_path / "results.jsonl"
    expired = {"code": "batch_expired", "message": "This request could not be executed before the completion window."}
    with opened(project) as shop:
        for failures in range(2):  # retries = 1: two attempts
            report = shop.export_batch([user], AT, file)
            assert (report.requests, report.decided) == (1, 0)
            [one] = lines(file)
            write(results, [{"custom_id": one["custom_id"], "response": None, "error": expired}])
            done = shop.import_batch(results)
            assert (done.answered, done.failed, done.cost_usd) == (0, 1, 0.0)
            assert shop.memory.usage().failed == 1 and shop.memory.spent(report.run).tokens == 0
            assert shop.memory.spent(report.run).calls == failures + 1
        report = shop.export_batch([user], AT, file)
        assert (report.requests, report.waiting) == (1, 1), "the next question of the loop"
        write(results, [{**lines(file)[0], "response": {"status_code": 500, "body": {"error": "x"}}}] * 1)
        for _ in range(20):
            shop.import_batch(results)
            if not shop.export_batch([user], AT, file).requests:
                break
            write(results, [{**one, "response": {"status_code": 500, "body": {}}} for one in lines(file)])
        decision = shop.trace(user)
    assert decision.reasoner == "evidence"
    assert "batch_expired" in decision.rounds[0].answers[0].why and "batches: 2" in decision.rounds[0].answers[0].why


GOOD = {"status_code": 200, "body": {"choices": [{"message": {"role": "assistant", "content": "{}"}}]}}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "it is no JSON"),
        ("[]", "it has no custom_id"),
        ('{"custom_id": 7}', "it has no custom_id"),
        (json.dumps({"custom_id": "f" * 64, "response": GOOD}), "belongs to no request of this memory"),
        ('{"custom_id": "ID"}', "neither a response with a body nor an error"),
        ('{"custom_id": "ID", "response": {"status_code": 200, "body": {"choices": []}}}', "no chat completion"),
        (
            '{"custom_id": "ID", "response": {"status_code": 200, "body": {"choices": [{"message": {"content": 7}}]}}}',
            "its content is no text",
        ),
        ("[" * 100_000, "it is no JSON"),
        (json.dumps({"custom_id": "ID", "filler": "x" * 2**24}), "it has no custom_id"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_read_unless_asked_to(
    project: Path, tmp_path: Path, line: str, told: str
) -> None:
    users, file, results = users_at(project, 2), tmp_path / "batch.jsonl", tmp_path / "results.jsonl"
    with opened(project) as shop:
        shop.export_batch(users, AT, file)
        first, second = [one["custom_id"] for one in lines(file)]
        good = json.dumps({"custom_id": first, "response": GOOD, "error": None})
        results.write_text(f"{good}\n\n{line.replace('ID', second)}\n", "utf-8")
        with pytest.raises(InputError, match=f"line 3: .*{told}"):
            shop.import_batch(results)
        assert shop.memory.usage().outstanding == 2, "nothing was read"
        done = shop.import_batch(results, skip_bad_lines=True)
        assert (done.lines, done.answered, done.bad) == (2, 1, 1)
        assert done.estimated == 1, "the line says nothing of usage"
        assert shop.memory.usage().outstanding == 1


def test_a_budget_bounds_what_is_exported(project: Path, tmp_path: Path) -> None:
    users, file = users_at(project, COUNT), tmp_path / "batch.jsonl"
    with opened(project, budget={"calls_per_run": 3}) as shop:
        report = shop.export_batch(users, AT, file)
        assert report.requests == 3 == len(lines(file)) and "calls_per_run = 3" in report.budget_met
        assert shop.export_batch(users, AT, file).requests == 3
        with pytest.raises(InputError, match="cannot be written"):
            shop.export_batch(users, AT, file / "below.jsonl")
        assert shop.memory.usage(report.run).outstanding == 3 and shop.export_batch(users, AT, file).requests == 3


def test_without_a_model_of_openai_s_kind_there_is_no_batch(shop: RoleGen, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="without an LLM there is nothing to ask"):
        shop.export_batch(["12350"], AT, tmp_path / "batch.jsonl")


def test_the_commands(project: Path, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_MODEL", "scripted")
    monkeypatch.setenv("OPENAI_BASE_URL", NOWHERE)
    export = ("batch", "export", "out.jsonl", "--at", AT, "--limit", "2", "--project", "shop")
    done = line(*export)
    assert done.returncode == 0 and "requests: 2 in out.jsonl" in done.stdout, done.stderr
    assert "next: run that batch" in done.stdout
    with ScriptedLlm() as server:
        write(line.folder / "results.jsonl", answers(server, lines(line.folder / "out.jsonl")))
    read = line("batch", "import", "results.jsonl", "--project", "shop")
    assert "2 answers, 0 errors, 0 known before, 0 bad" in read.stdout and "cost: unknown" in read.stdout
    report = json.loads(line(*export, "--json").stdout)
    assert (report["requests"], report["waiting"]) == (2, 2)
    monkeypatch.setenv("ROLEGEN_BUDGET__CALLS_PER_RUN", "0")
    spent = line(*export, "--user", users_at(project, 3)[2], "--model", "another")
    assert spent.returncode == 3 and "no more requests: the LLM budget calls_per_run = 0 is spent" in spent.stderr
    missing = line("batch", "import", "nothing.jsonl", "--project", "shop")
    assert missing.returncode == 1 and "it cannot be read: No such file" in missing.stderr
