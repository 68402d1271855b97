"""The check before a run: it says what is wrong with an endpoint, and what to do."""

from __future__ import annotations

import subprocess
import sys
import traceback
from typing import Any

import pytest

from rolegen_agent.llm import check_endpoint
from rolegen_errors import ProjectError
from tests.support.scripted_llm import Mode, ScriptedLlm

KEY = "sk-secret-0123456789abcdef"


def problem(url: str | None, model: str = "scripted", key: str | None = KEY, **more: Any) -> str:
    with pytest.raises(ProjectError) as caught:
        check_endpoint(url, key, model, **more)
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told and "evidence" in str(caught.value)
    return str(caught.value)


def test_a_listed_model_costs_no_call() -> None:
    with ScriptedLlm(api_key=KEY) as server:
        check_endpoint(server.url, KEY, "scripted")
        assert [(asked.method, asked.path) for asked in server.asked] == [("GET", "/v1/models")]


def test_a_server_without_a_list_is_asked_for_one_word() -> None:
    with ScriptedLlm(models=None) as server:
        check_endpoint(server.url, None, "whatever")
        [asked] = server.chats
        assert asked.body["max_completion_tokens"] == 16


def test_an_unknown_model_is_named_with_those_that_exist() -> None:
    with ScriptedLlm(models=["qwen3:8b", "llama3.2"]) as server:
        told = problem(server.url, "qwen3")
    assert "does not accept model 'qwen3'" in told and "qwen3:8b" in told


def test_a_wrong_key_is_called_so() -> None:
    with ScriptedLlm(api_key="another-key") as server:
        told = problem(server.url)
    assert "refuses the API key" in told and "(redacted)" in told


def test_nothing_listens() -> None:
    with ScriptedLlm() as server:
        url = server.url
    assert "cannot be reached" in problem(url)
    assert "user" not in problem(url.replace("http://", "http://user:password@"))


def test_a_missing_v1_is_guessed() -> None:
    with ScriptedLlm() as server:
        assert "/v1" in problem(server.url.removesuffix("/v1"))


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("no_protocol", "not with OpenAI's chat completions"),
        ("no_choices", "without choices"),
        ("bad_request", "does not accept model"),
        ("server_error", "cannot answer now"),
        ("rate_limited", "cannot answer now"),
    ],
)
def test_a_server_without_a_list_that_cannot_answer(mode: Mode, said: str) -> None:
    with ScriptedLlm(mode, models=None) as server:
        assert said in problem(server.url)


def test_a_silent_endpoint() -> None:
    with ScriptedLlm("slow", models=None, delay_s=5.0) as server:
        assert "in time" in problem(server.url, timeout_s=0.3)


def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert "no API key" in problem(None, key=None)


def test_the_scripted_server_runs_by_itself() -> None:
    command = [sys.executable, "-m", "tests.support.scripted_llm", "--model", "trial"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        url = told.split()[0].removeprefix("OPENAI_BASE_URL=")
        check_endpoint(url, None, "trial")
        process.terminate()


def test_importing_llm_access_loads_no_client() -> None:
    code = "import sys, rolegen_agent.llm; sys.exit('openai' in sys.modules or 'langchain_core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
