"""The programs of ``examples/`` as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def example(root: Path, name: str) -> ModuleType:
    """``examples/NAME.py``, loaded."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", root / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # LangGraph looks there for the types of a state
    spec.loader.exec_module(module)
    return module
