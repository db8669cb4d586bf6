"""The house stays as it was drawn: imports run one way, parts stay small, --help stays quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "cards": {"cards"},
    "crafting": {"crafting"},
    "evaluation": {"evaluation", "crafting"},
    "release": {"release", "crafting", "evaluation", "cards"},
}
MODULES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
ONLY_IN_RELEASE = {"datasets", "pyarrow"}


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(nodes: list[ast.AST]) -> set[str]:
    """The top-level packages that these nodes import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which way they run"
            found.add((node.module or "").split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_imports_run_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    imported = _imports(list(ast.walk(ast.parse(path.read_text()))))
    assert imported & set(MAY_IMPORT) <= MAY_IMPORT[package]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_file_formats_are_known_in_release_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    if package in ("crafting", "cards"):
        assert not _imports(list(ast.walk(tree))) & ONLY_IN_RELEASE
    if package == "evaluation":
        assert not _imports(list(tree.body)) & ONLY_IN_RELEASE


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_parts_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert lines <= 60, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("arguments", [["--help"], ["push", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from release.cli import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "heavy = {'torch', 'datasets', 'pyarrow', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()


def test_what_trains_nothing_loads_no_nets() -> None:
    """It would double the time in which a command or a worker is ready."""
    script = (
        "import sys, release.pipeline, release.stages, accelerate, crafting.registry as r\n"
        "r.methods()\n"
        "heavy = {'torchvision', 'torch._dynamo', 'timm', 'scipy', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
