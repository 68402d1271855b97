"""``inspect``: pages that show why a user got these items, served on loopback or written as one file."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer

from rolegen_errors import InputError

from ..facade import RoleGen
from .options import ProjectOption
from .show import err, out

DEFAULT_PORT = 8723


def inspect(
    users: Annotated[
        list[str] | None, typer.Argument(help="Users to export; only with --export.", show_default=False)
    ] = None,
    project: ProjectOption = None,
    export: Annotated[
        bool, typer.Option("--export", help="Write the users' latest decisions as one HTML file, and end.")
    ] = False,
    to: Annotated[Path, typer.Option("--to", help="The file that --export writes.")] = Path("trace.html"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = DEFAULT_PORT,
    host: Annotated[str, typer.Option("--host", help="Beyond loopback a token is asked for.")] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="ROLEGEN_PAGES_TOKEN",
            help="What visitors must know; beyond loopback one is made up.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        bool, typer.Option("--mask", help="Leave out who users are, days of events, prompts and answers.")
    ] = False,
    evals: Annotated[
        list[Path] | None, typer.Option("--evals", help="Folder of a suite of `rolegen eval`, for the prompts page.")
    ] = None,
) -> None:
    """See why users got these items: open pages in a browser, or export some users as one HTML file."""
    from ..pages import catalogue_titles, create_app, write_export

    if export and not users:
        raise InputError("--export needs users", fix="rolegen inspect --export USER…")
    if users and not export:
        raise InputError("users are named without --export", fix="rolegen inspect --export USER…, or open their pages")
    for folder in evals or ():
        if not folder.is_dir():
            raise InputError("there is no such folder of a suite", where=str(folder), fix="rolegen eval cases SUITE")
    with RoleGen.open(project) as shop:
        titles = catalogue_titles(shop.project.items)
        if export:
            count = write_export(to, shop.memory, users or (), titles=titles, mask=mask)
            told = f"{count} decision{'' if count == 1 else 's'} in {to}, {to.stat().st_size / 1000:,.0f} kB"
            out.print(told, markup=False, soft_wrap=True)
            return
        from ..pages import LOOPBACK, is_loopback, serve

        near = is_loopback(host)
        wanted = token or (None if near else secrets.token_urlsafe(24))
        # Beyond loopback the token, which a strange site does not have, takes the place of the check of names.
        app = create_app(
            shop.memory,
            titles=titles,
            mask=mask,
            token=wanted,
            hosts={*LOOPBACK, host} if near else None,
            evals=evals or (),
            trace_url=shop.project.settings.telemetry.trace_url,
        )

        def ready(at: int) -> None:
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{at}/" + (f"?token={wanted}" if wanted else "")
            out.print(f"open {address}", markup=False, soft_wrap=True)
            err.print("Ctrl-C ends it", style="dim")

        serve(app, host, port, ready)
