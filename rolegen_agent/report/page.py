"""Write the report: one HTML file that needs nothing outside itself, and no script to be read."""

from __future__ import annotations

import base64
import hashlib
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from rolegen_graphs.words import ROLES, Fate, Role

from .charts import Drawn, dormancy_chart, fates_chart, metric_chart, roles_chart
from .customer import CustomerSection
from .text import clean, points
from .words import ROLE_MEANING, Report

_HERE = Path(__file__).parent
_SECTIONS = 4000  # about 5 kB each; more would make the page slow to open


def write_report(path: Path, report: Report) -> Path:
    """Write ``report`` as one HTML file and return its path; an earlier file is replaced only by a complete one.

    Sections are written for the first 4,000 customers, and the page says how many more there are; tiles and charts count
    all of them. All text is escaped, and a content security policy allows only the page's own style and script, by their hashes.
    """
    return write_page(
        path,
        "page.html.jinja",
        script=(_HERE / "search.js").read_text(encoding="utf-8"),
        report=report,
        sections=report.customers[:_SECTIONS],
        overview=_overview(report.customers),
        metric_charts=[metric_chart(metric, report.systems) for metric in report.metrics] if report.systems else [],
        other_charts=_charts(report.customers),
        best={metric.key: _best(report, metric.key) for metric in report.metrics},
        roles=[(number, role, ROLE_MEANING[role]) for number, role in enumerate(ROLES)],
        role_number={role: number for number, role in enumerate(ROLES)},
    )


def write_page(path: Path, template: str, *, folder: Path = _HERE, script: str = "", **values: object) -> Path:
    """Write any page in the report's look; an earlier file is replaced only by a complete one.

    Args:
        template: a Jinja file in ``folder`` or beside this one; it gets ``policy``, ``style``, ``script`` and ``values``.
        script: the only script that the page's content security policy lets run.
    """
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    allowed = f"script-src '{_hash(script)}'; " if script else ""
    page = (
        _environment(folder)
        .get_template(template)
        .generate(
            policy=f"default-src 'none'; style-src '{_hash(style)}'; {allowed}base-uri 'none'; form-action 'none'",
            style=Markup(style),
            script=Markup(script),
            **values,
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(page)
    os.replace(unfinished, path)  # noqa: PTH105  atomic on every platform
    return path


@dataclass(frozen=True, kw_only=True)
class _Overview:
    customers: int
    back: int
    hit: int
    silent: float | None


def _overview(customers: Sequence[CustomerSection]) -> _Overview:
    return _Overview(
        customers=len(customers),
        back=sum(customer.outcome == "back" for customer in customers),
        hit=sum(customer.hits > 0 for customer in customers),
        silent=statistics.median(customer.days_since_last for customer in customers) if customers else None,
    )


def _charts(customers: Sequence[CustomerSection]) -> list[Drawn]:
    if not customers:
        return []
    roles: Counter[Role] = Counter()
    fates: Counter[Fate] = Counter()
    for customer in customers:
        roles.update(customer.roles)
        fates.update(customer.fates)
    drawn = [dormancy_chart([customer.days_since_last for customer in customers])]
    if roles:
        drawn.append(roles_chart(roles))
    if fates:
        drawn.append(fates_chart(fates))
    return drawn


def _best(report: Report, key: str) -> float | None:
    return max((system.figures[key].value for system in report.systems if key in system.figures), default=None)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _finalize(value: object) -> object:
    """Every value that the template prints: text is cleaned, markup of our own is left as it is."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["points"] = points
    return environment
