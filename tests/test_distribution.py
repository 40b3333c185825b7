"""The wheel and the sdist: what is in them, and that the wheel works where no checkout is."""

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.tiny_texts import write_messages

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both; the wheel is built from the sdist."""
    pytest.importorskip("build", reason="not installed: pip install build hatchling")
    pytest.importorskip("hatchling", reason="not installed: pip install build hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def run(*command: object, cwd: Path | None = None, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


def sources(folder: Path) -> set[str]:
    """Return the files of the package, as they stand in the checkout."""
    files = (file for file in (folder / "rehead").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {str(file.relative_to(folder)) for file in files}


def test_wheel_is_the_package_its_licence_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    expected = sources(ROOT / "src")
    assert {
        "rehead/py.typed",
        "rehead/evaluation/templates/report.html.jinja",
        "rehead/serving/page/page.html",
    } < expected
    assert {name for name in names if name.startswith("rehead/")} == expected
    others = {PurePosixPath(name) for name in names - expected}
    assert {str(path.relative_to(path.parts[0])) for path in others} == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"),
    }


def test_sdist_has_the_tests_and_what_they_need(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {str(PurePosixPath(*PurePosixPath(name).parts[1:])) for name in archive.getnames()}
    assert {f"src/{name}" for name in sources(ROOT / "src")} < names
    needed = {
        "LICENSE",
        "Makefile",
        "README.md",
        "constraints.txt",
        "tests/conftest.py",
        "tests/tiny_texts.py",
        "tools/lines.py",
    }
    assert needed < names
    assert not [name for name in names if name.startswith((".venv", "demo/", "dist/", ".git/"))]


def test_wheel_fits_outside_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")  # noqa: S202
    data = write_messages(tmp_path / "data.csv")
    where = {"cwd": tmp_path, "PYTHONPATH": str(tmp_path / "site")}
    place = run(sys.executable, "-c", "import rehead; print(rehead.__file__)", **where)
    assert Path(place.strip()) == tmp_path / "site" / "rehead" / "__init__.py"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = run(sys.executable, "-m", "rehead.cli", "--version", **where)
    assert said.split() == ["rehead", project["version"]]
    run(sys.executable, "-m", "rehead.cli", "fit", data, "--model", "tfidf", "-o", tmp_path / "model", **where)
    assert "<title>" in (tmp_path / "model" / "report.html").read_text(encoding="utf-8")
    answer = run(sys.executable, "-m", "rehead.cli", "predict", tmp_path / "model", "meet you at noon", **where)
    assert answer.startswith("ham\t")
