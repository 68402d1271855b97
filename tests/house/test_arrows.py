"""The import arrows of the house: a file imports only from its own floor or from below."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

FOLDERS = {
    "rolegen_errors": "rolegen_errors.py",
    "rolegen_prompts": "prompts/rolegen_prompts",
    "rolegen_backbone": "backbone/rolegen_backbone",
    "rolegen_graphs": "graphs/rolegen_graphs",
    "rolegen_agent": "rolegen_agent",
    "rolegen_evals": "evals/rolegen_evals",
}
MAY_IMPORT = {
    "rolegen_errors": set[str](),
    "rolegen_prompts": {"rolegen_errors"},
    "rolegen_backbone": {"rolegen_errors"},
    "rolegen_graphs": {"rolegen_errors", "rolegen_prompts"},
    "rolegen_agent": {"rolegen_errors", "rolegen_prompts", "rolegen_backbone", "rolegen_graphs"},
    "rolegen_evals": {"rolegen_errors", "rolegen_prompts", "rolegen_backbone", "rolegen_graphs", "rolegen_agent"},
}
ROOF = ("rolegen_agent.cli", "rolegen_agent.server")
"""They may import everything, and nothing imports them."""


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of the house; a package goes by its own name."""
    for package, folder in FOLDERS.items():
        path = root / folder
        for file in [path] if path.suffix == ".py" else sorted(path.rglob("*.py")):
            inner = file.relative_to(path).with_suffix("").parts if file != path else ()
            yield ".".join([package, *(part for part in inner if part != "__init__")]), file


def on_roof(module: str) -> bool:
    return any(module == roof or module.startswith((roof + ".", roof + "_")) for roof in ROOF)


def imported(module: str, is_package: bool, source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that ``source`` imports, by statement or by ``import_module``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            up = node.level - is_package
            base = parts[: len(parts) - up] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno, str(node.args[0].value)


def violations(module: str, is_package: bool, source: str) -> list[str]:
    """What ``source`` imports against the arrows, one sentence each."""
    own = module.split(".")[0]
    found = []
    for line, name in imported(module, is_package, source):
        other = name.split(".")[0]
        if other not in FOLDERS:
            continue
        if on_roof(name) and not on_roof(module):
            found.append(f"{module}:{line} imports {name}, which stands on the roof")
        elif other != own and not on_roof(module) and other not in MAY_IMPORT[own]:
            found.append(f"{module}:{line} imports {name}, which is not below {own}")
    return found


def circle(sources: Mapping[str, tuple[bool, str]]) -> list[str]:
    """Modules that import each other in a circle, now or when first needed; empty where there is none.

    What is imported for types alone does not count, nor does a module's own package.
    """
    uses: dict[str, set[str]] = {}
    for module, (is_package, source) in sources.items():
        named = {name for _, name in imported(module, is_package, without_types(source))}
        found = {name if name in sources else name.rpartition(".")[0] for name in named}
        uses[module] = {name for name in found if name in sources and not f"{module}.".startswith(f"{name}.")}
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def without_types(source: str) -> str:
    """``source`` without what stands under ``if TYPE_CHECKING:``."""
    tree = ast.parse(source)
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.unparse(tree)


def test_no_files_import_each_other_in_a_circle(root: Path) -> None:
    sources = {name: (file.name == "__init__.py", file.read_text(encoding="utf-8")) for name, file in modules(root)}
    assert circle(sources) == []


def test_a_circle_is_found_and_one_of_types_is_none() -> None:
    house = {"a": (True, ""), "a.b": (False, "def f():\n    from .c import g"), "a.c": (False, "from . import b")}
    assert set(circle(house)) == {"a.b", "a.c"}
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import b"
    assert circle(house | {"a.c": (False, types)}) == []


def test_every_file_imports_from_its_own_floor_or_from_below(root: Path) -> None:
    found = [
        fault
        for module, file in modules(root)
        for fault in violations(module, file.name == "__init__.py", file.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_the_walk_sees_the_whole_house(root: Path) -> None:
    seen = {module for module, _ in modules(root)}
    assert {"rolegen_errors", "rolegen_graphs.words", "rolegen_agent.report.page", "rolegen_evals.metrics"} <= seen


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rolegen_graphs.nodes.execute", "import rolegen_backbone.model"),
        ("rolegen_graphs.nodes.execute", "from rolegen_agent import memory"),
        ("rolegen_backbone.model", "def f():\n    from rolegen_graphs.words import Path"),
        ("rolegen_prompts", "import rolegen_backbone"),
        ("rolegen_agent.memory.database", "import importlib\nimportlib.import_module('rolegen_evals')"),
        ("rolegen_agent.memory.database", "from ..cli import main"),
        ("rolegen_agent.memory.database", "from .. import server"),
        ("rolegen_evals.bench", "import rolegen_agent.cli"),
        ("rolegen_evals.bench", "from rolegen_agent.cli.show import table"),
        ("rolegen_errors", "import rolegen_prompts"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, source: str) -> None:
    assert len(violations(module, False, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("rolegen_graphs.nodes.execute", "from ..words import Path\nfrom rolegen_prompts import pack\nimport torch"),
        ("rolegen_agent.cli.bench", "import rolegen_evals\nfrom . import main\nfrom ..server import graph"),
        ("rolegen_agent.server", "import rolegen_backbone, rolegen_evals"),
        ("rolegen_evals.bench", "from rolegen_agent.memory import Memory"),
    ],
)
def test_a_right_arrow_is_left_alone(module: str, source: str) -> None:
    assert violations(module, False, source) == []
