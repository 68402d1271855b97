"""A decision told in a terminal: what the customer did, the roles, the paths, the slate, and what really happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from rolegen_graphs.words import (
    ROLES,
    Attribution,
    Decision,
    Effect,
    ItemSpec,
    Outcome,
    Path,
    PathChoice,
    Role,
    RoleLabel,
    Round,
)

from .report.reasons import choice_words, credit_words, lesson_words, parts_words
from .report.text import bounded, points
from .report.words import reasoner_words

SHOWN_LABELS, SHOWN_PATHS, SHOWN_BOUGHT = 6, 12, 10
COLOURS: Mapping[Role, str] = dict(
    zip(
        ROLES,
        ("magenta", "cyan", "yellow", "blue", "green", "bright_magenta", "bright_green", "red", "dim", "dim"),
        strict=True,
    )
)


def story(
    decision: Decision, outcome: Outcome | None, titles: Mapping[str, str], credit: Sequence[Attribution] = ()
) -> RenderableType:
    """One customer's decision as a panel; nothing from outside is read as markup. ``credit``: what the order is owed to."""
    last, trajectory = decision.rounds[-1], decision.observation.trajectory
    bought = set(outcome.items) if outcome else set()
    effects, choices = {e.path: e for e in last.effects}, {c.path: c for c in last.choices}
    parts: list[RenderableType] = [
        Text(bounded(trajectory.dormant_because, 200), style="italic"),
        Text(f"{trajectory.total_events} events on {trajectory.orders} order days before {decision.at.date()}"),
        _heading("What the items did, as far as the log tells"),
        *(_label(label, decision) for label in _telling(last.reading.labels)),
        Text(f"  intent now: {last.reading.intent.stage}, {bounded(last.reading.intent.need, 100) or 'no open need'}"),
        _heading("What could bring them back"),
        *(_path(path, effects.get(path.path), choices.get(path.path)) for path in _chosen_first(last)[:SHOWN_PATHS]),
        *_lessons(decision),
        _heading("Slate (✓ bought afterwards)"),
        _slate(decision, bought),
        _heading("What they really did"),
        _outcome(outcome, titles),
        *(_credits(credit, titles)),
        Text(f"answered by {bounded(reasoner_words(decision.reasoner), 120)}", style="dim"),
        *([Text(bounded(decision.worth.why, 200), style="dim")] if decision.worth else []),
    ]
    return Panel(Group(*parts), title=Text(f"customer {bounded(decision.user, 40)}", style="bold"), title_align="left")


def _lessons(decision: Decision) -> list[RenderableType]:
    told = lesson_words(decision.observation)
    return [_heading("What earlier outcomes taught"), *(Text(f"  {line}") for line in told)] if told else []


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _telling(labels: tuple[RoleLabel, ...]) -> list[RoleLabel]:
    """The surest labels, in the order of the reading, which is that of time."""
    best = sorted(labels, key=lambda label: (label.role in ("incidental", "unresolved"), -label.confidence))
    shown = {label.event for label in best[:SHOWN_LABELS]}
    return [label for label in labels if label.event in shown]


def _label(label: RoleLabel, decision: Decision) -> Text:
    event = {e.event: e for e in decision.observation.trajectory.events}[label.event]
    text = Text("  ")
    text.append(f"{event.at.date()} ", style="dim")
    text.append(f"{label.role:<13} ", style=COLOURS[label.role])
    text.append(f"{bounded(event.title, 44):<44} ")
    text.append(bounded(label.why, 110), style="dim")
    return text.append(f"\n      {parts_words(label)}", style="dim") if label.parts else text


def _chosen_first(last: Round) -> list[Path]:
    """The used paths in the order of their choice, then the others in that of the proposal."""
    places = {choice.path: choice.place for choice in last.choices if choice.place is not None}
    return sorted(last.paths, key=lambda path: places.get(path.path, len(last.paths) + 1))


def _spec(spec: ItemSpec) -> str:
    price = ""
    if spec.price_low is not None and spec.price_high is not None:
        price = f" at {spec.price_low:.2f}-{spec.price_high:.2f}"
    return f"{spec.role}: {bounded(spec.text or spec.category or 'any item', 50)}{price}"


def _path(path: Path, effect: Effect | None, choice: PathChoice | None) -> Text:
    text = Text("  ")
    text.append(f"{path.operation} ", style="dim")
    text.append(_spec(path.intervention), style=COLOURS[path.intervention.role])
    for step in path.steps:
        text.append("  →  ")
        text.append(_spec(step), style=COLOURS[step.role])
    if effect is not None:
        change = f"  {points(effect.change)} [{points(effect.low)}, {points(effect.high)}]"
        text.append(change, style="dim")
    text.append(f"\n      {bounded(path.why, 150)}", style="dim")
    return text.append(f"\n      {choice_words(choice)}", style="" if choice.chosen else "yellow") if choice else text


def _slate(decision: Decision, bought: set[str]) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=True, header_style="dim")
    for name in ("", "", "item", "title", "p", "because"):
        table.add_column(name, justify="right" if name == "p" else "left", no_wrap=name != "title")
    without = {item.item for item in decision.slate_without_reasoning.items}
    for item in decision.slate.items:
        because = Text(item.role or "", style=COLOURS[item.role] if item.role else "")
        if item.drawn_from is not None and item.drawn_from != item.rank:
            because.append(f" (drawn from rank {item.drawn_from}, p {item.propensity or 0:.2f})", style="dim")
        if item.item not in without and (decision.slate.draw is None or item.item in decision.slate.draw.late):
            because.append(" (new by reasoning)", style="bold")
        if item.showing:
            because.append(f" (showing it {points(item.showing)})", style="dim")
        hit = Text("✓" if item.item in bought else "", style="bold green")
        title = Text(bounded(item.title, 44))
        table.add_row(str(item.rank), hit, Text(bounded(item.item, 16)), title, f"{item.score:.3f}", because)
    return table


def _outcome(outcome: Outcome | None, titles: Mapping[str, str]) -> Text:
    if outcome is None:
        return Text("  not known yet")
    if outcome.ordered_at is None:
        return Text("  did not order within the horizon" + ("" if outcome.final else " so far"))
    shown = ", ".join(bounded(titles.get(item, item), 40) for item in outcome.items[:SHOWN_BOUGHT])
    more = len(outcome.items) - SHOWN_BOUGHT
    text = Text(f"  came back on {outcome.ordered_at.date()} with {len(outcome.items)} items: {shown}")
    return text.append(f" and {more} more" if more > 0 else "")


def _credits(credit: Sequence[Attribution], titles: Mapping[str, str]) -> list[Text]:
    lines = [Text(f"  {line}") for line in credit_words(credit, titles)]
    return [_heading("What the order is owed to, by rollout"), *lines] if lines else []
