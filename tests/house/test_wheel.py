"""The wheel: what is in it, and that it works where the checkout is out of reach."""

from __future__ import annotations

import subprocess
import sysconfig
import zipfile
from pathlib import Path

import pytest

from .test_arrows import FOLDERS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(root: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [python, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(root)],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, python: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script folder of a clean environment that has the wheel, and this one's packages but not its checkout."""
    venv = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([python, "-m", "venv", "--without-pip", str(venv)], check=True)
    (site,) = venv.glob("lib/python*/site-packages")
    # a folder named in a .pth file is searched, but the .pth files in it (the editable install) are not followed
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    subprocess.run(
        [
            python,
            "-m",
            "pip",
            "--python",
            str(venv / "bin" / "python"),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            str(wheel),
        ],
        check=True,
    )
    return venv / "bin"


def test_what_a_plan_is_computed_from_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"rolegen_evals/scale/results/{name}.json" for name in ("costs", "speed")} <= set(names)


def test_no_generic_name_lands_in_site_packages(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        FOLDERS[package] if FOLDERS[package].endswith(".py") else package for package in FOLDERS
    }


def test_the_wheel_has_every_file_of_the_packages(wheel: Path, root: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package, folder in FOLDERS.items():
        path = root / folder
        files = (
            [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        )
        expected = {package + ".py" if path.is_file() else f"{package}/{p.relative_to(path).as_posix()}" for p in files}
        assert expected - inside == set()


def test_the_wheel_works_without_the_checkout(installed: Path, root: Path, tmp_path: Path) -> None:
    script = "; ".join(
        f"import {package}; print({package}.__path__[0])" for package in FOLDERS if package != "rolegen_errors"
    )
    done = subprocess.run(
        [str(installed / "python"), "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    paths = done.stdout.split()
    assert len(paths) == 5
    assert all(Path(path).is_relative_to(installed.parent) for path in paths), paths


def test_the_command_greets_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(installed / "rolegen"), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for command in ("init", "ingest", "dormant", "train", "awaken", "explain", "demo", "bench"):
        assert command in done.stdout
    assert list(tmp_path.iterdir()) == [], "asking for help writes nothing"
