"""What no source may contain, and what every component must have."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from .test_arrows import FOLDERS, modules

UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "__import__",
    "torch.load",
    "torch.jit.load",
    "numpy.fromfile",
    "yaml.load",
    "os.system",
}


def unsafe(source: str) -> list[str]:
    """Imports and calls that would run what a file from outside says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in UNSAFE_MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in UNSAFE_CALLS:
                found.append(ast.unparse(node.func))
            found += [
                f"{keyword.arg}=True"
                for keyword in node.keywords
                if keyword.arg in ("allow_pickle", "shell")
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value
            ]
    return found


def test_nothing_from_outside_is_ever_executed(root: Path) -> None:
    found = {module: unsafe(file.read_text(encoding="utf-8")) for module, file in modules(root)}
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "eval('1')",
        "import torch\ntorch.load('x')",
        "import numpy\nnumpy.load('x', allow_pickle=True)",
        "import subprocess\nsubprocess.run('x', shell=True)",
    ],
)
def test_an_unsafe_source_is_found(source: str) -> None:
    assert unsafe(source)
    assert unsafe("import torch\nmodel = torch.nn.Linear(1, 1)\nmodel.eval()") == []


def test_every_component_has_a_page_of_its_own(root: Path) -> None:
    for folder in ("backbone", "evals", "graphs", "prompts", "rolegen_agent"):
        readme = root / folder / "README.md"
        assert readme.is_file(), f"{folder}/README.md is missing"
        assert 10 <= len(readme.read_text(encoding="utf-8").splitlines()) <= 120, f"{folder}/README.md is not one page"


def test_every_package_is_typed(root: Path) -> None:
    folders = [folder for folder in FOLDERS.values() if not folder.endswith(".py")]
    assert [folder for folder in folders if not (root / folder / "py.typed").exists()] == []


def test_every_dependency_is_pinned_and_from_no_named_host(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all(re.fullmatch(r"[0-9][\w.]*", version) for version in pins.values()), "no url, path or local version"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    direct = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    names = {re.split(r"[\[<>=!~; ]", one)[0].lower().replace("_", "-") for one in direct}
    assert names - set(pins) == set()


def test_the_server_file_names_an_importable_module(root: Path) -> None:
    served = json.loads((root / "langgraph.json").read_text(encoding="utf-8"))["graphs"]
    for target in served.values():
        module, _, name = target.partition(":")
        assert "/" not in module and name, "the file form breaks relative imports"
        file = root / (module.replace(".", "/") + ".py")
        assert re.search(rf"^(?:async )?(?:def {name}\b|{name}\b.*=)", file.read_text(encoding="utf-8"), re.M)


def test_the_check_of_a_bare_machine_can_be_started(root: Path) -> None:
    run = root / ".ci" / "run"
    assert os.access(run, os.X_OK)
    subprocess.run(["bash", "-n", str(run)], check=True)
    assert "make test" in run.read_text(encoding="utf-8")
