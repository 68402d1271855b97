"""The language of benchmarks: what is written, what is shown, what is refused."""

from __future__ import annotations

import io
import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
from rich.console import Console

from rolegen_errors import InputError
from rolegen_evals import Result, all_benchmarks, bench, commit, machine, results


def result(**figures: float) -> Result:
    return Result(name="demo", commit="abc", machine="2 cores", seconds=1.25, figures=figures)


def test_the_file_has_exactly_the_agreed_fields(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "demo.json"
    result(**{"all.hit1.popularity": 0.1, "all.hit1.llm:qwen-2.5": 0.2}).write(path)
    assert json.loads(path.read_text()) == {
        "name": "demo",
        "commit": "abc",
        "machine": "2 cores",
        "seconds": 1.25,
        "figures": {"all.hit1.popularity": 0.1, "all.hit1.llm:qwen-2.5": 0.2},
    }


def test_the_table_has_a_row_for_each_system() -> None:
    out = io.StringIO()
    result(**{"all.hit1.a": 0.3456789, "all.recall10.a": 0.5, "all.hit1.b": 0.25, "new.hit1.b": 0.125}).show(
        Console(file=out, width=100)
    )
    rows = [re.findall(r"[\w.]+", line) for line in out.getvalue().splitlines()]
    assert ["a", "0.3457", "0.5"] in rows
    assert ["b", "0.25"] in rows
    assert ["b", "0.125"] in rows


@pytest.mark.parametrize(("key", "figure"), [("hit1", 0.1), ("all.hit1.", 0.1), ("all.hit1.a", float("nan"))])
def test_a_figure_that_nobody_could_use_is_refused(key: str, figure: float) -> None:
    with pytest.raises(InputError, match=re.escape(key)):
        result(**{key: figure})


def test_the_commit_is_ours_and_never_that_of_a_surrounding_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site" / "rolegen_evals" / "results.py"
    installed.parent.mkdir(parents=True)
    installed.touch()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert commit()
    monkeypatch.setattr(results, "__file__", str(installed))
    assert commit() == version("rolegen-agent")


def test_the_machine_is_told_without_its_name() -> None:
    assert re.fullmatch(r"\d+ cores?(, \d+ GiB)?, .+", machine())


def test_all_benchmarks_go_into_one_folder_and_what_is_done_at_this_commit_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def measured(name: str, commit: str) -> bench.Benchmark:
        def run(order: bench.Order) -> Result:
            ran.append(name)
            if name == "broken":
                raise InputError("the disc is full")
            return Result(name=name, commit=commit, machine="2 cores", seconds=1.0, figures={"a.b.c": 1.0})

        return run

    monkeypatch.setattr(all_benchmarks, "commit", lambda: "c0ffee0123ab")
    made = {name: measured(name, "c0ffee0123ab") for name in ("one", "broken", "beauty", "two")}
    for module in (bench, all_benchmarks):
        monkeypatch.setattr(module, "BENCHMARKS", made)
    order = bench.Order(progress=lambda *_: None)
    first = all_benchmarks.run_all(order, tmp_path)
    assert first.written == ["one", "two"] and set(first.failed) == {"broken", "beauty"}
    assert "disc is full" in first.failed["broken"] and "--data" in first.failed["beauty"]
    again = all_benchmarks.run_all(order, tmp_path, only=["one", "two"])
    assert again.kept == ["one", "two"] and ran == ["one", "broken", "two"]
    monkeypatch.setattr(all_benchmarks, "commit", lambda: "badcafe01234")
    assert all_benchmarks.run_all(order, tmp_path, only=["two"]).written == ["two"], "another commit measures anew"
    with pytest.raises(InputError, match="no benchmark three"):
        all_benchmarks.run_all(order, tmp_path, only=["three"])


def test_a_wide_table_is_turned_so_that_every_figure_can_be_read() -> None:
    printed = Console(file=io.StringIO(), width=80)
    metrics = [f"metric_number_{number}" for number in range(12)]
    figures = {f"load.{metric}.{system}": 10_000 + n for n, metric in enumerate(metrics) for system in ("one", "two")}
    result(**figures).show(printed)
    said = printed.file.getvalue()  # type: ignore[attr-defined]
    assert all(metric in said for metric in metrics)
    assert all(f"{10_000 + n:,}" in said for n in range(12))
