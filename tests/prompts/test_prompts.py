"""Prompts: golden renderings, overriding by a folder, and what a prompt file must not get wrong."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from rolegen_errors import PromptError
from rolegen_graphs.llm.answers import parse_answer
from rolegen_graphs.llm.schemas import TASKS
from rolegen_graphs.words import ROLES, STAGES
from rolegen_prompts import Message, PromptPack
from tests.support.golden_prompts import FOLDER, golden_renderings

NAMES = ("judge", "learn", "reason", "reflect", "repair", "revise", "simulate")


def prompt_text(name: str, version: int = 2, body: str = "# User\nHello", **head: object) -> str:
    fields = {"name": name, "version": version, "variables": [], "output": None, "note": "a test", **head}
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in fields.items()) + f"---\n{body}\n"


def write(folder: Path, name: str, text: str, version: int = 2) -> Path:
    path = folder / name / f"{version}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_what_the_model_is_sent_is_the_golden_text(name: str) -> None:
    assert golden_renderings()[name] == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_default_pack_holds_the_six_prompts_with_their_hashes() -> None:
    pack = PromptPack.default()
    assert pack.names() == NAMES
    for name in NAMES:
        prompt = pack.get(name)
        assert prompt.note and prompt.sha256 == hashlib.sha256(prompt.path.read_bytes()).hexdigest()
        assert pack.get(name, prompt.version) == pack.get(name, str(prompt.version)) == prompt
        assert pack.find(name, prompt.sha256) == prompt
        assert prompt.text == prompt.path.read_text(encoding="utf-8")


def test_the_prompts_explain_every_role_and_stage() -> None:
    pack = PromptPack.default()
    for name in ("reason", "simulate"):
        assert [role for role in ROLES if role not in pack.get(name).text] == []
    assert [stage for stage in STAGES if stage not in pack.get("reason").text] == []


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_shape_shown_in_a_prompt_is_a_valid_answer(task: str) -> None:
    prompt = PromptPack.default().get(task)
    assert prompt.output == task
    shape = re.search(r"^(\{\".*\})\n\n# User$", prompt.text, re.MULTILINE | re.DOTALL)
    assert shape, "the answer's shape stands last in the system part"
    parse_answer(shape[1], TASKS[task])


def test_a_folder_overrides_single_prompts(tmp_path: Path) -> None:
    default = PromptPack.default()
    mine = prompt_text("repair", body="# User\nAgain: {{ problems | inline }}", variables=["answer", "problems"])
    write(tmp_path, "repair", mine)
    pack = PromptPack.load(tmp_path)
    assert pack.get("repair").version == 2
    assert pack.get("repair").render(answer="x", problems="bad") == (Message("user", "Again: bad"),)
    assert pack.get("reason") == default.get("reason")
    assert pack.versions("repair") == (1, 2)
    assert pack.get("repair", 1) == default.get("repair"), "the old version stays readable"
    assert pack.find("repair", default.get("repair").sha256) == default.get("repair")
    assert pack.names() == default.names()


def test_a_users_version_1_comes_before_the_default_one(tmp_path: Path) -> None:
    text = prompt_text("repair", version=1, body="# User\nmine", variables=["answer", "problems"])
    write(tmp_path, "repair", text, version=1)
    assert PromptPack.load(tmp_path).get("repair").render(answer="", problems="")[0].content == "mine"


def test_hash_does_not_depend_on_line_ends(tmp_path: Path) -> None:
    text = prompt_text("repair", variables=["answer", "problems"])
    unix = write(tmp_path / "unix", "repair", text)
    dos = tmp_path / "dos" / "repair" / "2.md"
    dos.parent.mkdir(parents=True)
    dos.write_bytes(text.replace("\n", "\r\n").encode())
    hashes = {PromptPack.load(path.parents[1]).get("repair").sha256 for path in (unix, dos)}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"answer": "x"}, "missing: problems"),
        ({"answer": "x", "problems": "y", "item": "z"}, "unknown: item"),
        ({"problem": "y", "answer": "x"}, "missing: problems; unknown: problem"),
    ],
)
def test_missing_and_unknown_variables_are_errors(given: dict[str, str], said: str) -> None:
    with pytest.raises(PromptError, match=said) as caught:
        PromptPack.default().get("repair").render(**given)
    assert "repair/1.md" in str(caught.value) and "answer, problems" in str(caught.value)


BOTH = ["answer", "problems"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "front matter"),
        ("---\nname: [\n---\n# User\n", "cannot be read"),
        (prompt_text("repair", extra=1), "unknown: extra"),
        (prompt_text("reason"), "do not fit the file's place"),
        (prompt_text("repair", version=3), "do not fit the file's place"),
        (prompt_text("repair", note=" "), "note is empty"),
        (prompt_text("repair", output=3), "'output'"),
        (prompt_text("repair", variables="answer"), "'variables'"),
        (prompt_text("repair", body="Hello"), "no speaker"),
        (prompt_text("repair", body="# System\nHello"), "must end in a section '# User'"),
        (prompt_text("repair", body="# User\n{{ answer | inline"), "malformed"),
        (prompt_text("repair", body="# User\n{{ answer | shout }}", variables=BOTH), "malformed"),
        (prompt_text("repair", body="# User\n{{ item | inline }}", variables=BOTH), "does not declare: item"),
        (prompt_text("repair", variables=["answer"]), "other variables"),
    ],
)
def test_a_malformed_prompt_is_refused_when_it_is_loaded(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, "repair", text)
    with pytest.raises(PromptError, match=said) as caught:
        PromptPack.load(tmp_path)
    assert str(path) in str(caught.value)


def test_a_prompt_that_is_no_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "repair", "").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match="cannot be read"):
        PromptPack.load(tmp_path)


def test_a_misspelt_name_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="holds no prompt"):
        PromptPack.load(tmp_path)
    with pytest.raises(PromptError, match="does not exist"):
        PromptPack.load(tmp_path / "nowhere")
    write(tmp_path, "resaon", prompt_text("resaon"))
    with pytest.raises(PromptError, match="'resaon'") as caught:
        PromptPack.load(tmp_path)
    assert "known names: judge, learn, reason" in str(caught.value)


def test_an_unknown_prompt_or_version_names_the_known_ones() -> None:
    with pytest.raises(PromptError, match="known names: judge, learn, reason"):
        PromptPack.default().get("rank")
    with pytest.raises(PromptError, match="known versions: 1"):
        PromptPack.default().get("reason", 99)


@pytest.mark.parametrize(
    "body",
    [
        "{{ answer }}",
        "{{ answer | upper }}",
        "{{ answer | inline | lower }}",
        "{{ answer ~ 'x' }}",
        "{{ (answer | inline) ~ problems }}",
        "{{ [answer] }}",
        "{{ answer | inline | safe }}",
        "{{ answer.__class__ }}",
        "{{ answer.__class__.__mro__ | inline }}",
        "{{ answer | fence('a\n>>>') }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 1 / 0 }}",
        "{{ ('x' * 1000000000) | inline }}",
        "{{ problems.nothing | inline }}",
    ],
)
def test_a_prompt_cannot_print_unquoted_text_or_leave_the_sandbox(tmp_path: Path, body: str) -> None:
    write(tmp_path, "repair", prompt_text("repair", body=f"# User\n{body}", variables=BOTH))
    with pytest.raises(PromptError):
        PromptPack.load(tmp_path).get("repair").render(answer="<<<x", problems="y")
