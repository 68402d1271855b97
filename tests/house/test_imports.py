"""What importing the product costs, and that its public names exist and say what they are."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
from pathlib import Path

import pytest

from .test_arrows import modules, on_roof

HEAVY = {"torch", "sklearn", "scipy", "altair", "polars.testing"}


@pytest.mark.parametrize("package", ["rolegen_agent", "rolegen_graphs", "rolegen_agent.cli"])
def test_the_import_is_free_of_torch(package: str, python: str, tmp_path: Path) -> None:
    script = f"import json, sys, {package}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([python, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert package in loaded
    assert loaded & HEAVY == set()
    if package == "rolegen_agent.cli":  # every command waits for this
        assert loaded & {"langgraph", "sqlalchemy", "polars", "numpy", "openai"} == set()


def test_every_public_name_resolves_and_says_what_it_is(root: Path) -> None:
    faults = []
    for name, file in modules(root):
        if file.name != "__init__.py" or on_roof(name):
            continue
        package = importlib.import_module(name)
        for public in getattr(package, "__all__", ()):
            if not hasattr(package, public):
                faults.append(f"{name}.{public} does not exist")
            elif not documented(getattr(package, public)):
                faults.append(f"{name}.{public} has no docstring of its own")
    assert faults == []


def documented(thing: object) -> bool:
    """Whether a class or function of ours has a docstring that a person wrote; constants and aliases need none."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)) or not thing.__module__.startswith("rolegen_"):
        return True
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    # a dataclass or named tuple without a docstring gets its signature as one
    return bool(text and text.strip()) and not text.startswith(f"{thing.__name__}(")


def test_a_missing_docstring_is_found() -> None:
    from dataclasses import dataclass
    from typing import NamedTuple

    @dataclass
    class Bare:
        x: int

    class Pair(NamedTuple):
        x: int

    Bare.__module__ = Pair.__module__ = "rolegen_x"
    assert not documented(Bare)
    assert not documented(Pair)
    assert documented(3)
