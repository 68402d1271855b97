"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", "-p", help="Project folder; otherwise searched from here upwards.", show_default=False),
]
AtOption = Annotated[
    str, typer.Option("--at", help="Decision time, YYYY-MM-DD (midnight UTC): nothing from then on is seen.")
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", help="Folder of your own prompts; else [reasoner] prompts of the project, if it names one."
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster: HOST:PORT of it, auto for the one of this machine, or local to make one (extra ray).",
    ),
]
RayWorkersOption = Annotated[
    int | None, typer.Option("--ray-workers", min=1, help="Workers on the cluster; else as many as it has room for.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
