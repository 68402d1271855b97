"""Spans arrive at a real OTLP receiver on loopback, hold what they should and no secret, and cost a decision nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from rolegen_agent.memory import open_memory
from rolegen_agent.project import open_project
from rolegen_agent.telemetry import tracing
from rolegen_agent.telemetry.export import asked_for, exported_spans
from rolegen_errors import MissingExtraError, ProjectError
from tests.support.collectors import Ears, LangSmith, OtlpCollector, SpanSeen
from tests.support.scripted_llm import ScriptedLlm
from tests.support.shop import Command
from tests.support.snippets import read

KEY = "sk-loopback-7c2e91d05fb84a"
HEADER = "collector-secret-0f3b5d"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".rolegen").mkdir()
    (tmp_path / "rolegen.toml").write_text("", "utf-8")
    return tmp_path


def traced_run(
    folder: Path, llm: ScriptedLlm, users: int, *more: str, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """The batch of ``traced_run.py``, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.traced_run", str(folder), str(users), *more],
        env=variables(llm, environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def variables(llm: ScriptedLlm, more: Mapping[str, str]) -> dict[str, str]:
    model = {"OPENAI_BASE_URL": llm.url, "OPENAI_API_KEY": KEY, "OPENAI_MODEL": "scripted"}
    return {**os.environ, **model, "OMP_NUM_THREADS": "1", **more}


def to(ears: Ears) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": ears.url}


def traces(folder: Path) -> list[str | None]:
    """What memory says of its decisions, by user."""
    with open_memory(open_project(folder).memory_url) as memory:
        return [one.trace_id for one in sorted(memory.decisions(), key=lambda one: one.user)]


def below(spans: list[SpanSeen], root: SpanSeen) -> list[SpanSeen]:
    """The spans of the root's trace that hang below it, at any depth."""
    parents = {span.span: span.parent for span in spans}

    def reaches(span: str) -> bool:
        while span and span != root.span:
            span = parents.get(span, "")
        return span == root.span

    return [span for span in spans if span.span != root.span and reaches(span.span)]


@pytest.mark.slow
def test_an_llm_run_arrives_with_one_root_for_each_decision_and_without_secrets(
    project: Path, root: Path, rolegen: Command
) -> None:
    awaken, explain = (step.arguments() for step in read(root / "docs" / "telemetry.md") if step.kind == "rolegen")
    with OtlpCollector().listening() as collector, ScriptedLlm("unauthorised", "echo_key", "good") as llm:
        environment = variables(
            llm,
            {
                **to(collector),
                "OTEL_SERVICE_NAME": "my-shop",
                "OTEL_EXPORTER_OTLP_HEADERS": f"x-token={HEADER}",
                "ROLEGEN_REASONER__KIND": "llm",
                "ROLEGEN_TELEMETRY__TRACE_URL": "http://127.0.0.1:6006/redirects/traces/{trace_id}",
            },
        )
        done = rolegen(*awaken, environment=environment, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "spans" not in done.stderr, "nothing was lost"
    told = rolegen(*explain, environment=environment, timeout=600)
    with open_memory(open_project(project).memory_url) as memory:
        kept = {one.user: one.trace_id for one in memory.decisions()}
    assert f"traced: http://127.0.0.1:6006/redirects/traces/{kept['12350']}" in told.stdout, told.stderr
    spans, roots = collector.spans(), collector.roots()
    assert kept == {root.attributes["user.id"]: root.trace for root in roots}
    assert len(roots) == 3 == len({root.trace for root in roots}) == len({root.attributes["user.id"] for root in roots})
    assert {span.service for span in spans} == {"my-shop"}
    assert all(not root.parent and not root.failed for root in roots)
    assert sum(len(below(spans, root)) + 1 for root in roots) == len(spans), "no span stands outside of a decision"
    for root in roots:
        children = below(spans, root)
        nodes = {"observe", "reason", "simulate", "ground", "execute", "feedback", "reflect"}
        assert {child.trace for child in children} == {root.trace} and nodes <= {child.name for child in children}
        models = [child for child in children if child.attributes.get("openinference.span.kind") == "LLM"]
        for metric, name in (("prompt", "input"), ("completion", "output")):
            told = sum(child.attributes.get(f"llm.token_count.{metric}", 0) for child in models)
            assert root.attributes[f"rolegen.tokens.{name}"] == told > 0
        assert root.attributes["rolegen.models"] == ["scripted"]
        assert json.loads(root.attributes["output.value"])[0]["rank"] == 1
    assert any(span.failed for span in spans), "the refused request is a failed span"
    assert any("(redacted)" in span.whole for span in spans), "which quoted the key"
    sent = b"\n".join(body for _, _, body in collector.heard)
    assert KEY.encode() not in sent and HEADER.encode() not in sent
    assert {headers["x-token"] for _, headers, _ in collector.heard} == {HEADER}


def test_masked_spans_hold_no_text_and_no_user(folder: Path) -> None:
    with OtlpCollector().listening() as collector, ScriptedLlm("server_error", "good") as llm:
        done = traced_run(
            folder, llm, 2, environment={**to(collector), "ROLEGEN_TELEMETRY__MASK": "true", "OPENAI_TIMEOUT": "5"}
        )
    assert done.returncode == 0, done.stderr
    assert len(collector.roots()) == 2 and len(collector.spans()) > 20
    told = "\n".join(span.whole for span in collector.spans())
    for text in ("user-00000", "article", "You read the history", "something for the house"):
        assert text not in told
    for span in collector.spans():
        assert not {
            name for name in span.attributes if name.startswith(("input.", "output.", "llm.input", "llm.output"))
        }
    pseudonyms = {root.attributes["user.id"] for root in collector.roots()}
    assert len(pseudonyms) == 2 and all(name.startswith("user-") for name in pseudonyms)
    assert sum(span.attributes.get("llm.token_count.total", 0) for span in collector.spans()) > 0


def test_a_killed_decision_goes_on_in_the_trace_that_it_began_in(folder: Path) -> None:
    often = {"OTEL_BSP_SCHEDULE_DELAY": "20"}
    with OtlpCollector().listening() as collector:
        with ScriptedLlm("good", "slow", delay_s=60) as llm:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.traced_run", str(folder), "1"],
                env=variables(llm, {**to(collector), **often}),
            )
            end = time.monotonic() + 300
            while len(llm.chats) < 2 or not collector.spans("reason"):
                assert time.monotonic() < end and process.poll() is None
                time.sleep(0.02)
            process.kill()
            process.wait()
        (begun,) = {span.trace for span in collector.spans()}
        assert collector.roots() == [], "its root died with it"
        with ScriptedLlm() as llm:
            done = traced_run(folder, llm, 1, environment=to(collector))
    assert done.returncode == 0, done.stderr
    (root,) = collector.roots()
    assert root.attributes["rolegen.resumed"] is True
    assert {span.trace for span in collector.spans()} == {begun} == {root.trace}
    assert len(collector.spans("observe")) == 1, "what was done is not done again"
    assert traces(folder) == [root.trace]


@pytest.mark.parametrize("silent", [False, True])
def test_a_dead_collector_fails_no_decision_and_what_is_lost_is_told(folder: Path, silent: bool) -> None:
    collector = OtlpCollector(silent=silent)
    with ScriptedLlm() as llm:
        if silent:
            with collector.listening():
                done = traced_run(folder, llm, 2, environment=to(collector))
        else:
            done = traced_run(folder, llm, 2, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://u:p4ss@127.0.0.1:9"})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"decided": 2, "left": 0}
    (line,) = done.stderr.splitlines()
    lost, rest = line.split(" of ", 1)
    assert int(lost) > 20 and rest.startswith(f"{lost} spans could not be delivered to http://127.0.0.1:")
    assert "p4ss" not in done.stderr


def test_nothing_is_sent_when_switched_off_or_not_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert asked_for()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with exported_spans(open_project(folder)):
        assert not tracing()
    assert not asked_for({}) and not asked_for({"OTEL_SERVICE_NAME": "x"})
    assert not asked_for({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"})
    assert asked_for({"OTEL_TRACES_EXPORTER": "otlp"})


def test_a_hosts_provider_gets_the_spans_below_its_own(folder: Path) -> None:
    with (
        OtlpCollector().listening() as hosts,
        OtlpCollector().listening() as named,
        ScriptedLlm() as llm,
    ):
        done = traced_run(folder, llm, 0, "--host", hosts.url, environment=to(named))
    assert done.returncode == 0, done.stderr
    assert named.heard == [], "the variables do not speak in a process that has a provider"
    spans = hosts.spans()
    assert {span.service for span in spans} == {"host"}
    (request,), (stream,) = hosts.spans("host.request"), hosts.spans("host.stream")
    first, second = hosts.roots()
    assert (first.parent, second.parent) == (request.span, stream.span)
    assert len(below(spans, first)) > 7 and len(below(spans, second)) > 7
    assert second.attributes["rolegen.tokens.input"] > 0, "a stream's root knows what it cost, too"
    (embedded,) = [span for span in hosts.spans("LangGraph") if span.parent == ""]
    assert embedded.trace not in {first.trace, second.trace}
    assert traces(folder) == [first.trace, second.trace, embedded.trace]


def test_a_missing_extra_and_what_is_not_spoken_are_told_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = open_project(folder)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "openinference.instrumentation.langchain", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rolegen-agent\[otel\]'"), exported_spans(project):
        pass
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(ProjectError, match="OTEL_EXPORTER_OTLP_PROTOCOL"), exported_spans(project):
        pass
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    with pytest.raises(ProjectError, match="OTEL_TRACES_EXPORTER"), exported_spans(project):
        pass
    assert not tracing()


def test_the_same_run_arrives_at_langsmith_by_its_usual_variables(folder: Path) -> None:
    with LangSmith().listening() as server, ScriptedLlm() as llm:
        done = traced_run(
            folder,
            llm,
            2,
            environment={
                "LANGSMITH_TRACING": "true",
                "LANGSMITH_ENDPOINT": server.url,
                "LANGSMITH_API_KEY": "lsv2_loopback_51c09e",
                "LANGSMITH_PROJECT": "my-shop",
            },
        )
    assert done.returncode == 0, done.stderr
    runs = server.runs()
    assert {run["session_name"] for run in runs.values()} == {"my-shop"}
    roots = [run for run in runs.values() if run.get("parent_run_id") is None]
    assert [run["name"] for run in roots] == ["LangGraph", "LangGraph"]
    assert {"observe", "reason", "reflect", "rolegen_reason"} <= {run["name"] for run in runs.values()}
    asked = [run for run in runs.values() if run["run_type"] == "llm"]
    assert len(asked) == len(llm.chats) and all(run["parent_run_id"] in runs for run in asked)
    assert all(run["end_time"] and "outputs" in run for run in runs.values()), "nothing was cut off at the end"
    assert {headers["x-api-key"] for _, headers, _ in server.heard} == {"lsv2_loopback_51c09e"}
    assert KEY.encode() not in server.everything


WORKERS = """
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from rolegen_agent import processes
from rolegen_agent.telemetry import decision_span, tracing

def work(number):
    with decision_span(f"d{number}", "run", f"user-{number}", datetime(2011, 9, 1, tzinfo=UTC)) as span:
        assert span.recording

if __name__ == "__main__":
    start = (Path(sys.argv[1]), None, True)
    with ProcessPoolExecutor(2, get_context("spawn"), processes._open, start) as pool:
        list(pool.map(work, range(20)))
    assert not tracing(), "the caller's own process is left alone"
"""


def test_worker_processes_deliver_their_spans_before_they_end(folder: Path, python: str) -> None:
    script = folder / "workers.py"
    script.write_text(WORKERS, "utf-8")
    late = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}  # nothing goes out before the end
    with OtlpCollector().listening() as collector:
        done = subprocess.run(
            [python, str(script), str(folder)],
            env={**os.environ, **to(collector), **late},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    assert done.returncode == 0, done.stderr
    assert {root.attributes["user.id"] for root in collector.roots()} == {f"user-{number}" for number in range(20)}
