"""Every program and notebook of examples/ runs, from an empty folder, and is on the page that lists them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.examples import ROOT

FOLDER = ROOT / "examples"
# A line that each prints, or the beginning of one.
FAST = {
    "rare_class.py": "from 0.0",
    "serve_and_ask.py": "spam: You have WON a prize!",
    "several_labels.py": "all labels right of 100% of 100 complaints",
    "spam_filter.py": "spam (100.0%): You have WON",
}
# These fetch a pretrained model.
SLOW = {"digits.py": "answers: 0 1 2 3 4  true: 0 1 2 3 4", "grid_search.py": "chosen: minilm"}


@pytest.mark.parametrize("name", FAST)
def test_program_runs(name: str, tmp_path: Path) -> None:
    run_program(name, FAST[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_program_with_a_pretrained_model_runs(name: str, tmp_path: Path) -> None:
    run_program(name, SLOW[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compare-approaches.ipynb", "first-classifier.ipynb"])
def test_notebook_runs(name: str, tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="no nbclient: pip install '.[dev]'")
    nbformat = pytest.importorskip("nbformat")
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_all_are_short_tested_and_listed() -> None:
    programs = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.py")}
    assert programs.keys() == FAST.keys() | SLOW.keys()
    assert [name for name, program in programs.items() if len(program.splitlines()) >= 40] == []
    page = (ROOT / "docs" / "guide" / "examples.md").read_text(encoding="utf-8")
    assert [file.name for file in FOLDER.iterdir() if file.is_file() and f"`{file.name}`" not in page] == []


def test_notebooks_are_kept_without_outputs() -> None:
    for file in FOLDER.glob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        assert [cell["outputs"] for cell in cells if cell.get("outputs")] == [], file.name


def run_program(name: str, line: str, folder: Path) -> None:
    ran = subprocess.run(
        [sys.executable, FOLDER / name], cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert any(printed.startswith(line) for printed in ran.stdout.splitlines()), ran.stdout
