"""``rolegen prompts``: versions side by side, a new one, what changed, what would be sent, and what lint finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rolegen_prompts import PromptPack
from tests.support.shop import AT, Line, users_at

PACK = PromptPack.default()


def write_version(folder: Path, name: str, change: tuple[str, str], version: int) -> Path:
    """The current default prompt of that name with one change, as ``version``."""
    text = PACK.get(name).text
    assert change[0] in text
    path = folder / name / f"{version}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    number = f"version: {PACK.get(name).version}"
    path.write_text(text.replace(*change).replace(number, f"version: {version}", 1), "utf-8")
    return path


def test_list_marks_the_current_version_of_every_prompt_and_says_whose_it_is(line: Line, tmp_path: Path) -> None:
    write_version(line.folder / "mine", "repair", ("Correct every one", "Mend every one"), 7)
    rows = json.loads(line("prompts", "list", "--prompts", "mine", "--json").stdout)
    current = {row["name"]: (row["version"], row["from"]) for row in rows if row["current"]}
    assert current["repair"] == (7, "yours") and current["reason"] == (PACK.get("reason").version, "default")
    assert {(row["name"], row["version"]) for row in rows} >= {("repair", 1), ("reason", 1)}
    assert all(row["tokens"] > 0 and row["note"] for row in rows)
    assert "7 (current)" in line("prompts", "list", "--prompts", "mine").stdout


def test_a_new_version_is_a_copy_under_the_next_number_and_is_never_overwritten(line: Line) -> None:
    done = line("prompts", "new", "reason", "--note", "Shorter: äöü, 'quotes' and # signs", "--prompts", "mine")
    assert done.returncode == 0, done.stderr
    usual = PACK.get("reason")
    made = PromptPack.load(line.folder / "mine").get("reason")
    assert made.version == usual.version + 1 and made.note == "Shorter: äöü, 'quotes' and # signs"
    assert made.body == usual.body and made.variables == usual.variables
    second = line("prompts", "new", "reason", "--note", "Shorter still", "--prompts", "mine")
    assert second.returncode == 0 and made.path.exists()
    assert PromptPack.load(line.folder / "mine").get("reason").version == made.version + 1
    empty = line("prompts", "new", "reason", "--note", " ", "--prompts", "mine")
    assert empty.returncode == 1 and "change note" in empty.stderr


def test_diff_shows_exactly_what_changed(line: Line) -> None:
    write_version(line.folder / "mine", "repair", ("Correct every one", "Mend every one"), 2)
    done = line("prompts", "diff", "repair", "--prompts", "mine")
    changed = [row for row in done.stdout.splitlines() if row.startswith(("+", "-")) and "version" not in row]
    assert changed[2:] == [
        "-Correct every one of them and leave the rest as it was. The rules and the data above still hold: ids and"
        " categories only as",
        "+Mend every one of them and leave the rest as it was. The rules and the data above still hold: ids and"
        " categories only as",
    ]
    assert "no version before" in line("prompts", "diff", "repair").stderr


def test_show_prints_the_file_and_for_a_user_what_would_be_sent(project: Path, line: Line) -> None:
    assert line("prompts", "show", "reason").stdout.strip() == PACK.get("reason").text.strip()
    [user] = users_at(project, 1)
    folder = project / "mine"
    write_version(folder, "reason", ("Give the labels", "Kindly give the labels"), 9)
    asked = ["prompts", "show", "reason", "--user", user, "--at", AT, "-p", str(project), "--prompts", str(folder)]
    done = line(*asked)
    assert done.returncode == 0, done.stderr
    assert "Kindly give the labels" in done.stdout and "<<<trajectory" in done.stdout and "=== user ===" in done.stdout
    assert "{{" not in done.stdout and "tokens" in done.stderr
    assert not any((project / ".rolegen").glob("memory.sqlite-journal"))
    assert "repair and revise" in line(*asked[:2], "repair", *asked[3:]).stderr


def test_the_shipped_prompts_pass_lint(line: Line) -> None:
    done = line("prompts", "lint")
    assert done.returncode == 0 and "7 prompts: 0 errors, 0 warnings" in done.stdout


@pytest.mark.parametrize(
    ("name", "change", "severity", "said"),
    [
        ("reason", ("version: ", "verzion: "), "error", "front matter"),
        ("reason", ("{{ lessons | fence", "{{ advice | fence"), "error", "does not declare: advice"),
        ("reason", ("[trajectory, categories,", "[trajectory, mood, categories,"), "error", "other variables"),
        ("reason", ('"event": 17', '"happening": 17'), "error", "would be refused"),
        ("reason", ("output: reason", "output: reflect"), "error", "the loop reads 'reason'"),
        ("reason", ("- gateway: a", "- opener: a"), "warning", "does not name: gateway"),
        ("repair", ("{{ answer | answer }}", "An answer."), "warning", "never printed: answer"),
        ("repair", ("Correct every one", "Correct every one"), "warning", "the same as version 1"),
        ("repair", ("Correct every one", "Please! " * 400 + "Correct every one"), "warning", "tokens before any data"),
    ],
)
def test_lint_finds_what_is_wrong(line: Line, name: str, change: tuple[str, str], severity: str, said: str) -> None:
    path = write_version(line.folder / "mine", name, change, 5)
    done = line("prompts", "lint", "--prompts", "mine", "--json")
    found = json.loads(done.stdout)
    told = [one for one in found if one["severity"] == severity and said in one["what"]]
    assert told and all(line.folder / one["path"] == path for one in told), found
    assert done.returncode == (1 if severity == "error" else 0)


def test_lint_goes_on_after_an_error_and_finds_files_that_are_never_read(line: Line) -> None:
    folder = line.folder / "mine"
    write_version(folder, "reason", ("version: ", "verzion: "), 5)
    write_version(folder, "repair", ("output: null", "output: 3"), 5)
    shutil.copy(PACK.get("repair").path, folder / "repair.md")
    write_version(folder, "repair", ("Correct every one", "Mend every one"), 6).rename(folder / "repair" / "six.txt")
    (folder / "rank").mkdir()
    (folder / "rank" / "1.md").write_text(PACK.get("repair").text.replace("name: repair", "name: rank"), "utf-8")
    done = line("prompts", "lint", "--prompts", "mine")
    assert done.returncode == 1
    for said in ("front matter", "'output'", "never read", "uses a prompt 'rank'", "3 errors, 2 warnings"):
        assert said in done.stdout, done.stdout


def test_the_projects_own_folder_is_used_without_being_named(project: Path, line: Line) -> None:
    file = project / "rolegen.toml"
    file.write_text(file.read_text("utf-8") + '[reasoner]\nprompts = "prompts"\n', "utf-8")
    done = line("prompts", "new", "reflect", "--note", "Bolder", "-p", str(project))
    assert done.returncode == 0 and (project / "prompts" / "reflect" / "2.md").exists(), done.stderr
    rows = json.loads(line("prompts", "list", "-p", str(project), "--json").stdout)
    assert [row["version"] for row in rows if row["name"] == "reflect" and row["current"]] == [2]
