"""The house's own rules, checked on its source."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rehead

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "rehead"


def test_nothing_is_pickled_and_no_remote_code_is_run() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\bimport (pickle|joblib|dill)\b|trust_remote_code=True|torch\.load\((?!.*weights_only=True\))", text
        ), path


def test_every_module_says_what_it_holds() -> None:
    for path in SOURCE.rglob("*.py"):
        assert path.read_text().startswith('"""'), path


@pytest.mark.parametrize("command", [["lines.py"], ["words.py"], ["tree.py", "--check"]], ids=" ".join)
def test_source_keeps_its_budgets_and_the_tree_shows_every_file(command: list[str]) -> None:
    tool, *arguments = command
    finished = subprocess.run([sys.executable, ROOT / "tools" / tool, *arguments], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_tree_lists_each_file_once_and_none_that_is_not_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    tree = page.partition("```text\nrehead/")[2].partition("```")[0]
    listed = re.findall(r"^ +(\S+\.py) +\S", tree, re.MULTILINE)
    assert sorted(listed) == sorted(path.name for path in SOURCE.rglob("*.py") if path.name != "__init__.py")


def test_core_is_what_the_classifier_imports() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        lines = importlib.import_module("lines")
    finally:
        sys.path.pop(0)
    core = set(lines.core_files())
    assert {"src/rehead/classifier.py", "src/rehead/training/finetune.py", "src/rehead/runtime/files.py"} <= core
    assert not {file for file in core if re.search("/(cli|comparison|serving|workflows|analysis|instruction)/", file)}


def test_public_names_are_exactly_what_is_exported() -> None:
    face = ast.parse((SOURCE / "__init__.py").read_text())
    for_types = next(part.body for part in face.body if isinstance(part, ast.If))
    imported = {alias.asname for part in for_types if isinstance(part, ast.ImportFrom) for alias in part.names}
    defined = {part.name for part in face.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")}
    assert sorted(rehead.__all__) == sorted(imported | defined)
    assert set(rehead.__all__) <= set(dir(rehead))
    for name in rehead.__all__:
        assert callable(getattr(rehead, name)), name
        assert getattr(rehead, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'galaxy'"):
        _ = rehead.galaxy


def test_rooms_export_nothing_of_their_own() -> None:
    for path in SOURCE.glob("*/__init__.py"):
        exports = [part for part in ast.parse(path.read_text()).body if not isinstance(part, ast.Expr)]
        assert not exports or path.parent.name == "cli", path


def test_public_names_are_what_they_are_in_any_order() -> None:
    assert callable(rehead.evaluate)
    assert callable(rehead.fit)
    assert callable(rehead.fit)
    for name in rehead.__all__:
        assert callable(getattr(rehead, name)), name
