"""The project file: what it says, what outranks it, and what is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rolegen_agent.project import Project, Settings, open_project, parse_date, write_project_file
from rolegen_errors import InputError, ProjectError, RoleGenError


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL"):
        monkeypatch.delenv(name, raising=False)


def project(folder: Path, text: str) -> Project:
    (folder / "rolegen.toml").write_text(text, "utf-8")
    return open_project(folder)


def test_a_written_file_opens_with_what_was_given_and_defaults_elsewhere(tmp_path: Path) -> None:
    columns = {"user": 'the "user"', "item": "artikel\\nr é"}
    write_project_file(
        tmp_path,
        events=["a.csv", "b/*.csv"],
        columns=columns,
        behaviours={"buy": "order", "hover": "drop"},
        timezone="Europe/Berlin",
    )
    opened = open_project(tmp_path)
    data = opened.settings.data
    assert (data.events, data.columns, data.timezone) == (["a.csv", "b/*.csv"], columns, "Europe/Berlin")
    assert data.behaviours == {"buy": "order", "hover": "drop"}
    assert opened.settings.dormancy == Settings().dormancy
    assert opened.settings.budget.calls_per_decision == 12


def test_the_commented_keys_show_the_true_defaults(tmp_path: Path) -> None:
    file = write_project_file(tmp_path)
    text = file.read_text("utf-8")
    assert "api_key =" not in text
    # Every key with a default, its # taken away, must still be valid and change nothing.
    file.write_text(re.sub(r"(?m)^#(\w+ = (?!\.\.\.))", r"\1", text), "utf-8")
    assert open_project(tmp_path).settings == Settings()


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    file = write_project_file(tmp_path, preset="rees46")
    with pytest.raises(ProjectError, match="already"):
        write_project_file(tmp_path)
    assert open_project(tmp_path).settings.data.preset == "rees46"
    write_project_file(tmp_path, force=True)
    assert open_project(tmp_path).settings.data.preset is None
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_environment_outranks_dotenv_outranks_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("ROLEGEN_DORMANCY__DAYS=50\nROLEGEN_SLATE__SIZE=5\nUNRELATED=1\n")
    monkeypatch.setenv("ROLEGEN_DORMANCY__DAYS", "60")
    monkeypatch.setenv("ROLEGEN_DATA__EVENTS", '["x.csv", "y.csv"]')
    opened = project(
        tmp_path, '[dormancy]\ndays = 40\n[slate]\nsize = 3\nhorizon_days = 30\n[data]\nevents = "z.csv"\n'
    )
    assert opened.settings.dormancy.days == 60
    assert (opened.settings.slate.size, opened.settings.slate.horizon_days) == (5, 30)
    assert opened.settings.data.events == ["x.csv", "y.csv"]
    assert open_project(tmp_path, overrides={"dormancy": {"days": 70}}).settings.dormancy.days == 70


def test_llm_falls_back_to_the_openai_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-from-dotenv\nOPENAI_MODEL=small\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    opened = project(tmp_path, '[llm]\nmodel = "mine"\n')
    llm = opened.settings.llm
    assert (llm.model, llm.base_url) == ("mine", "http://127.0.0.1:1/v1")
    assert llm.api_key is not None and llm.api_key.get_secret_value() == "sk-from-dotenv"
    assert "sk-from-dotenv" not in repr(opened.settings) + opened.settings.model_dump_json()
    monkeypatch.setenv("ROLEGEN_LLM__MODEL", "theirs")
    assert open_project(tmp_path).settings.llm.model == "theirs"


def test_a_key_in_the_file_is_refused_without_being_repeated(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="environment") as caught:
        project(tmp_path, '[llm]\napi_key = "sk-secret"\n')
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[dormancy]\ndayz = 3\n", ["dayz", "did you mean 'days'", "rolegen.toml, [dormancy]"]),
        ("[dormancie]\ndays = 3\n", ["[dormancie]", "did you mean 'dormancy'", "rolegen.toml"]),
        ("[dormancy]\ndays = 0\n", ["greater than or equal to 1", "got 0", "[dormancy] days"]),
        ('[data]\npreset = "amazon"\n', ["online_retail_ii", "got 'amazon'", "[data] preset"]),
        ('[data]\ntimezone = "Europe/Londn"\n', ["IANA", "[data] timezone"]),
        ('[data.columns]\nuzer = "a"\n', ["[data] columns.uzer"]),
        ('[data.behaviours]\nbuy = "bought"\n', ["got 'bought'", "[data] behaviours.buy"]),
        ("data = 3\n", ["'data' must be a section"]),
        ("[data\n", ["not valid TOML", "rolegen.toml"]),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path: Path, text: str, told: list[str]) -> None:
    with pytest.raises(ProjectError) as caught:
        project(tmp_path, text)
    assert all(word in str(caught.value) for word in told), str(caught.value)


def test_mistakes_in_the_environment_name_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project_file(tmp_path)
    for name, value in (
        ("ROLEGEN_DORMANCY__DAYS", "many"),
        ("ROLEGEN_DORMANCY__DAYZ", "3"),
        ("ROLEGEN_DORMANCIE__DAYS", "3"),
        ("ROLEGEN_DATA__COLUMNS", "{not json"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(ProjectError, match=name):
                open_project(tmp_path)


def test_it_is_found_from_a_folder_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project_file(tmp_path)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert open_project().root == tmp_path.resolve()
    assert open_project(tmp_path / "rolegen.toml").root == tmp_path.resolve()
    with pytest.raises(ProjectError, match="rolegen init"):
        open_project(below)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///.rolegen/memory.sqlite", "sqlite:///{root}/.rolegen/memory.sqlite"),
        ("sqlite+pysqlite:///m.db?timeout=5", "sqlite+pysqlite:///{root}/m.db?timeout=5"),
        ("sqlite:////srv/m.db", "sqlite:////srv/m.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql+psycopg://me@127.0.0.1/db", "postgresql+psycopg://me@127.0.0.1/db"),
    ],
)
def test_relative_sqlite_paths_start_at_the_project(tmp_path: Path, url: str, expected: str) -> None:
    opened = project(tmp_path, f'[memory]\nurl = "{url}"\n')
    assert opened.memory_url == expected.format(root=tmp_path.resolve().as_posix())


def test_decisions_of_two_hours_do_not_share_artefacts(tmp_path: Path) -> None:
    write_project_file(tmp_path)
    opened = open_project(tmp_path)
    midnight = parse_date("2011-09-01")
    assert opened.artefacts(midnight) == opened.store / "artefacts" / "2011-09-01"
    assert opened.artefacts(midnight.replace(hour=12)) != opened.artefacts(midnight)
    with pytest.raises(ProjectError, match="time zone"):
        opened.artefacts(datetime(2011, 9, 1))
    with pytest.raises(ProjectError, match="rolegen ingest"):
        opened.require_store()


def test_dates() -> None:
    assert parse_date("2011-09-01") == datetime(2011, 9, 1, tzinfo=UTC)
    assert parse_date("2011-09-01T12:00:00+01:00") == datetime(2011, 9, 1, 11, tzinfo=UTC)
    assert parse_date("2011-09-01T12:00:00Z") == datetime(2011, 9, 1, 12, tzinfo=UTC)
    for text in ("2011-09-01T12:00", "1.9.2011", "2011-13-01", ""):
        with pytest.raises(InputError):
            parse_date(text)


def test_one_except_is_enough() -> None:
    assert issubclass(ProjectError, RoleGenError) and issubclass(InputError, RoleGenError)
