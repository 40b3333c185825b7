"""What tests share: the data beside the project, where it is there, and a cache that no test spoils."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

from rehead.cli import main
from rehead.runtime import files, progress
from tests.browsers import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# The first example of a test pays for what torch sets up.
settings.register_profile("rehead", deadline=None)
settings.load_profile("rehead")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

# Tests run beside each other's child processes: threads that wait must not spin (see rehead.cli.command_line).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# No test may depend on a model hub.
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _features_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fetched and converted models are those of the user's cache; features start from nothing."""
    folder = tmp_path_factory.mktemp("cache")
    for kept in ("packages", "converted"):
        (files.cache_folder() / kept).mkdir(parents=True, exist_ok=True)
        (folder / kept).symlink_to(files.cache_folder() / kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REHEAD_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets that lies beside the project on its developers' machines."""
    if not SHARED.is_dir():
        pytest.skip(f"the data sets in {SHARED} are not on this machine")
    return SHARED


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a family's tiny model, made when first asked for."""
    from tests.tiny_models import save_tiny_model  # imports torch, which reads what is set above

    parent = tmp_path_factory.mktemp("bases")

    def of(family: str) -> str:
        return str(parent / family if (parent / family).is_dir() else save_tiny_model(parent / family, family))

    return of


@pytest.fixture(scope="session")
def spam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny classifier of messages, which no test changes."""
    from tests.tiny_classifiers import save_tiny_classifier

    return save_tiny_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for tests marked `tests.browsers.needs_chromium`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """The command in this process: exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    yield run
    progress.show(False)


@pytest.fixture(scope="session")
def fits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `fit_once` keeps classifiers, for all processes that test side by side."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "fits"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def fit_once(
    fits: Path, in_process: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """`rehead fit ... -o FOLDER` on a sample, which several tests and pages ask for: it is fitted for the first alone.

    The others get a copy of the folder, and what was printed.
    """
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        *options, flag, folder = arguments
        assert flag == "-o"
        kept = fits / hashlib.sha256(" ".join(options).encode()).hexdigest()[:16]
        with FileLock(f"{kept}.lock"):
            if not kept.with_suffix(".json").exists():
                code, *printed = in_process(*options, "-o", kept)
                if code:
                    return code, *printed
                kept.with_suffix(".json").write_text(json.dumps(printed))
        shutil.copytree(kept, folder)
        out, err = json.loads(kept.with_suffix(".json").read_text())
        return 0, out.replace(str(kept), folder), err.replace(str(kept), folder)

    return run


@pytest.fixture
def shown() -> Iterator[None]:
    """Messages and warnings on stderr, as on the command line."""
    progress.show(True)
    yield
    progress.show(False)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with nothing in it."""
    monkeypatch.setenv("REHEAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
