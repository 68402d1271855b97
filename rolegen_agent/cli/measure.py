"""``demo`` and ``bench``: the main job on bundled data, and figures in one language."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from rolegen_errors import ProjectError

from ..report.words import reasoner_words
from .options import JsonOption
from .show import as_json, bars, err, out, stop_on_interrupt

RESULTS = Path("evals/results")


def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's project is made.")] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Every twentieth customer, one epoch: under a minute.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Awaken the dormant customers of a real shop, on bundled data: no key, no server, no GPU, about five minutes.

    Ctrl-C and the same command go on where it stopped.
    """
    import polars as pl

    from rolegen_evals.demo import METRICS, SYSTEMS, make_report, next_commands, run_demo

    from ..report import write_report
    from ..story import story

    with bars() as progress, stop_on_interrupt() as stop:
        done = run_demo(folder, progress=progress, quick=quick, stop=stop)
        progress("report", 0, 1)
        page = write_report(done.shop.project.store / "report.html", make_report(done))
        progress("report", 1, 1)
    if json:
        as_json(asdict(done.result()) | {"report": str(page), "memory": done.shop.memory.url})
        done.shop.close()
        return
    horizon = done.shop.project.settings.slate.horizon_days
    back = [o for o in done.outcomes.values() if o.ordered_at is not None]
    titles = dict(pl.read_parquet(done.shop.project.items, columns=["item", "title"]).iter_rows())
    out.print(
        f"{done.ingested.rows:,} rows read, {done.ingested.kept:,} events kept; on {done.at.date()} "
        f"{len(done.dormant):,} customers were dormant, {len(done.outcomes):,} of them decided on, "
        f"{len(back):,} came back within {horizon} days."
    )
    out.print(f"Answered by {reasoner_words(done.reasoner)}.\n", style="bold", markup=False)
    for decision in done.stories(3):
        out.print(story(decision, done.outcomes[decision.decision], titles))
    table = Table(title=f"{len(back):,} customers who came back (95 % intervals)", title_justify="left")
    table.add_column("")
    for label, _ in METRICS.values():
        table.add_column(label, justify="right")
    for system, name in SYSTEMS.items():
        cells = []
        for metric in METRICS:
            found = done.figures[f"returned.{metric}.{system}"]
            bounds = f" [{found.low:.3f}, {found.high:.3f}]" if found.low is not None else ""
            cells.append(f"{found.value:.3f}{bounds}")
        table.add_row(name, *cells, style="bold" if system == "rolegen" else None)
    out.print(table)
    for metric, system in (("hit1", "backbone"), ("hit1", "frequency"), ("recall10", "frequency")):
        found = done.differences[f"{metric}.{system}"]
        bounds = f" [{found.low:+.4f}, {found.high:+.4f}]" if found.low is not None else ""
        out.print(f"{METRICS[metric][0]}, RoleGen minus {SYSTEMS[system]}: {found.value:+.4f}{bounds}, paired")
    out.print(f"\ntrace database  {done.shop.memory.url}", markup=False, soft_wrap=True)
    out.print(f"report          {page}", markup=False, soft_wrap=True)
    out.print(f"{done.seconds:.0f} s; try next:")
    for command in next_commands(done):
        out.print(Text(f"  {command}", style="cyan"), soft_wrap=True)
    done.shop.close()


def bench(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of the benchmark; a wrong one lists them. 'all' runs every one into --results, 'tables' writes the pages' tables from there."
        ),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of data sets that are not shipped.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller version of about a minute.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="Write a page with charts to this file.")] = None,
    work: Annotated[
        Path | None, typer.Option("--work", help="Folder for finished parts; default: .rolegen-bench/NAME.")
    ] = None,
    validation: Annotated[
        bool, typer.Option("--validation", help="Run on the validation period, where settings are chosen.")
    ] = False,
    without: Annotated[list[str] | None, typer.Option("--without", help="A system to leave out; repeatable.")] = None,
    results: Annotated[Path, typer.Option("--results", help="With all and tables: folder of results.")] = RESULTS,
    only: Annotated[list[str] | None, typer.Option("--only", help="With all: a benchmark; repeatable.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Trainings of each trained system, where there are any.")
    ] = None,
    users: Annotated[float | None, typer.Option("--users", help="With plan: users, such as 50e6.")] = None,
    items: Annotated[float | None, typer.Option("--items", help="With plan: items of the catalogue.")] = None,
) -> None:
    """Run a benchmark; print its table and, with --json FILE, write {name, commit, machine, seconds, figures}.

    A benchmark with a work folder goes on after Ctrl-C where it stopped.
    """
    from rolegen_evals.bench import Order, run

    if name == "tables":
        _tables(results)
        return
    if name == "all":
        unknown = {
            "json": json,
            "report": report,
            "work": work,
            "validation": validation,
            "users": users,
            "items": items,
        }
        for option, given in unknown.items():
            if given:
                raise ProjectError(f"'all' knows no --{option}", fix="run that benchmark by its own name")
        _all(results, data, quick, only or [], tuple(without or ()), seeds)
        return
    with bars() as progress:
        order = Order(
            progress=progress,
            data=data,
            quick=quick,
            report=report,
            work=work,
            validation=validation,
            without=tuple(without or ()),
            seeds=seeds,
            users=users,
            items=items,
        )
        result = run(name, order)
    result.show(out)
    for file in (json, report):
        if file is not None:
            if file is json:
                result.write(file)
            out.print(f"wrote {file}", markup=False, soft_wrap=True)


def _all(
    results: Path, data: Path | None, quick: bool, only: list[str], without: tuple[str, ...], seeds: int | None
) -> None:
    from rolegen_evals.all_benchmarks import run_all
    from rolegen_evals.bench import Order

    if quick:  # for the shape only: it may not stand where the real figures stand
        results = Path(".rolegen-bench") / "quick"
    with bars() as progress:
        order = Order(progress=progress, data=data, quick=quick, without=without, seeds=seeds)
        found = run_all(order, results, only=only, tell=out.print)
    for said, names in (("written", found.written), ("measured at this commit before", found.kept)):
        if names:
            out.print(f"{said}: {', '.join(names)}; {results}", markup=False, soft_wrap=True)
    for failed, why in found.failed.items():
        err.print(f"not measured: {failed}: {why}", markup=False, soft_wrap=True)
    if found.failed:
        raise typer.Exit(1)
    out.print("next: rolegen bench tables")


def _tables(results: Path) -> None:
    from rolegen_evals.tables import write_tables

    pages = sorted(page for page in Path().glob("**/*.md") if not any(part.startswith(".") for part in page.parts))
    changed = write_tables(pages, results)
    out.print(f"written: {', '.join(map(str, changed))}" if changed else "all tables are as their results say")
