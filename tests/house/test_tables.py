"""Tables of the pages say what their files of results say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rolegen_errors import InputError
from rolegen_evals.results import Result
from rolegen_evals.tables import TABLES, read_result, rendered, write_tables


def test_tables_of_the_pages_are_those_of_their_results(root: Path) -> None:
    pages = [page for page in root.glob("**/*.md") if not any(part.startswith(".") for part in page.parts)]
    texts = {page: page.read_text("utf-8") for page in pages}
    differing = [page for page, text in texts.items() if rendered(text, root / "evals" / "results") != text]
    assert differing == [], "run: rolegen bench tables"
    assert sum("<!-- table: " in text for text in texts.values()) >= 1


def test_every_result_has_a_commit_and_a_machine(root: Path) -> None:
    results = [read_result(file) for file in sorted((root / "evals" / "results").glob("*.json"))]
    assert {one.name for one in results} >= {"demo", "reactivation"}
    assert all(one.commit and one.machine for one in results)


def test_a_changed_result_changes_its_table_and_a_missing_figure_is_named(tmp_path: Path) -> None:
    def measured(hit: float) -> None:
        bounds = {"all_interval.hit1_low.ours": 0.2, "all_interval.hit1_high.ours": 0.4}
        figures = {"all.hit1.ours": hit, **bounds, "all.hit1.others": 0.1}
        Result(name="x", commit="c0ffee", machine="2 cores", seconds=1.0, figures=figures).write(tmp_path / "x.json")

    described = 'result = "x"\ncorner = "users"\ndecimals = 2\ncolumns = {"all.hit1" = "hit@1"}\nrows = {ours = "ours", others = "theirs"}'
    (tmp_path / TABLES).write_text(f"[x]\n{described}\n", "utf-8")
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- table: x -->\nold\n<!-- /table -->\nAfter\n", "utf-8")
    measured(0.3)
    assert write_tables([page], tmp_path) == [page] and write_tables([page], tmp_path) == []
    assert page.read_text("utf-8") == (
        "Before\n<!-- table: x -->\n| users | hit@1 |\n|---|---|\n| ours | 0.30 [0.20, 0.40] |\n| theirs | 0.10 |\n"
        "<!-- /table -->\nAfter\n"
    )
    measured(0.35)
    assert rendered(page.read_text("utf-8"), tmp_path) != page.read_text("utf-8")
    page.write_text(
        "One in <!-- figure: x all.hit1.others .0% -->5 %<!-- /figure -->, ours <!-- figure: x all.hit1.ours +.2f --><!-- /figure -->"
        " (<!-- figure: x commit -->?<!-- /figure -->, <!-- figure: x seconds .0f -->?<!-- /figure --> s)",
        "utf-8",
    )
    assert (
        re.sub("<!--.*?-->", "", rendered(page.read_text("utf-8"), tmp_path))
        == "One in 10%, ours +0.35 [+0.20, +0.40] (c0ffee, 1 s)"
    )
    with pytest.raises(InputError, match=r"no figure 'all\.hit9\.ours'"):
        rendered("<!-- figure: x all.hit9.ours .2f --><!-- /figure -->", tmp_path)
    (tmp_path / TABLES).write_text("[x]\n" + described.replace("hit1", "recall10") + "\n", "utf-8")
    page.write_text("<!-- table: x -->\n<!-- /table -->\n", "utf-8")
    with pytest.raises(InputError, match=r"no figure 'all\.recall10\.ours'"):
        write_tables([page], tmp_path)
