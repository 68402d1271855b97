"""``prompts optimize``: better wordings of a prompt's parts, searched on a suite and judged on users that the search never saw."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, ProjectOption
from .show import as_json, bars, err, out


def optimise(
    suite: Annotated[Path, typer.Argument(help="Folder of the suite: see `rolegen eval cases`.")],
    prompt: Annotated[str, typer.Option("--prompt", help="Name of the prompt.")],
    tokens: Annotated[
        int, typer.Option("--tokens", min=1, help="Hard limit for all that is asked, comparison included.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Folder of prompts that gets the draft.")] = Path("prompts"),
    part: Annotated[
        list[str] | None,
        typer.Option("--part", help="Heading of a part that may change; repeatable. Else all but the fixed ones."),
    ] = None,
    measure: Annotated[
        str | None, typer.Option("--measure", help="Grader to raise; else the suite's first primary share.")
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", min=0.1, max=0.9, help="Share of users kept for the comparison.")
    ] = 0.5,
    proposals: Annotated[int, typer.Option("--proposals", min=1, help="Most proposals.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Of users apart, and of the search.")] = 0,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="Cases under way at the same time.")] = 4,
    model: Annotated[str | None, typer.Option("--model", help="Model that reasons; else as in the project.")] = None,
    reflection_model: Annotated[
        str | None, typer.Option("--reflection-model", help="Model that proposes; else the one that reasons.")
    ] = None,
    reflection_url: Annotated[
        str | None, typer.Option("--reflection-url", help="Its OpenAI-compatible endpoint; else that of the project.")
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", help="Folder of the search; default: optimize-PROMPT in the suite. The same one goes on."
        ),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
) -> None:
    """Search better texts for parts of a prompt, and write the best as a draft with its lineage. Nothing in use changes.

    The users of the comparison are kept apart from those of the search. A stopped search goes on with the same command, and pays nothing twice.
    """
    from rolegen_evals.optimise.run import Wish
    from rolegen_evals.optimise.run import optimise as search

    from ..llm import chat_model
    from ..project import open_project

    reflection = None
    if reflection_model or reflection_url:
        llm = open_project(project).settings.llm
        reflection_model = reflection_model or model or llm.model
        if reflection_model is None:
            raise typer.BadParameter("--reflection-url needs --reflection-model")
        reflection = chat_model(
            reflection_model,
            base_url=reflection_url or llm.base_url,
            api_key=llm.api_key.get_secret_value() if llm.api_key else None,
            timeout_s=llm.timeout_s,
            temperature=None if llm.temperature == "none" else llm.temperature,
        )
    wish = Wish(
        prompt=prompt,
        into=into,
        work=work or suite / f"optimize-{prompt}",
        tokens=tokens,
        parts=tuple(part or ()),
        measure=measure,
        held_out=held_out,
        proposals=proposals,
        seed=seed,
        at_once=at_once,
    )
    with bars() as progress:
        found = search(
            project,
            suite,
            wish,
            overrides={"llm": {"model": model}} if model else None,
            reflection=reflection,
            reflection_name=reflection_model,
            progress=progress,
        )
    if json:
        as_json(asdict(found))
        return
    refused = sum(found.refused.values())
    told = f"{found.proposals} proposals, {refused} of them refused; {found.tokens:,} tokens; ended: {found.stopped}"
    out.print(told, markup=False, soft_wrap=True)
    for why, times in found.refused.items():
        err.print(f"  refused {times}: {why}", markup=False, soft_wrap=True)
    out.print(f"on held-out users: {found.verdict}: {found.because}", markup=False, soft_wrap=True)
    if found.draft is None:
        return
    out.print(
        f"wrote {found.draft}, and comparison.md, .json and .html in {found.comparison}", markup=False, soft_wrap=True
    )
    out.print("it is a draft: read it, and remove the line 'draft: true' to use it", markup=False, soft_wrap=True)
