"""What an extra brings: without it a command says what to install, and the core does without."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rehead import Classifier, SettingError
from rehead.models.loading import locate
from rehead.models.registry import CATALOGUE
from rehead.runtime.downloads import is_fetched
from rehead.workflows.fit import fit
from tests.tiny_images import save_folders
from tests.tiny_texts import write_messages
from tests.tiny_vision_models import save_tiny_vision_model

# A fit and a prediction where packages that extras bring cannot be found.
_WITHOUT_EXTRAS = """
import sys
from importlib.machinery import PathFinder

hidden = {"gguf", "skimage", "fastapi", "uvicorn", "onnx", "onnxruntime", "openpyxl", "pandas", "optuna"}
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else find(name, *rest)
import rehead
_, data, base, folder = sys.argv
rehead.fit(data, rehead.Classifier(base, tune="head"), folder)
assert not hidden & sys.modules.keys()
print(*rehead.load(folder).predict(["meet you at noon"]))
"""


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_base_in_a_gguf_file_names_the_extra_before_anything_is_fetched(
    package: str, tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "own.gguf").write_bytes(b"GGUF")
    for base in ("smollm2", str(tmp_path / "own.gguf")):
        with pytest.raises(SettingError, match=rf"needs {package}; pip install 'rehead\[gguf\]'"):
            locate(base)
    assert not is_fetched(CATALOGUE["smollm2"].package)


def test_images_name_the_extra_before_a_fit_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    data = save_folders(tmp_path / "stripes", 12)
    with pytest.raises(SettingError, match=r"needs scikit-image; pip install 'rehead\[images\]'"):
        fit(str(data), Classifier("no such base"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_estimator_of_images_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    paths = sorted(save_folders(tmp_path / "stripes", 12).rglob("*.png"))
    base = save_tiny_vision_model(tmp_path / "base", "resnet")
    with pytest.raises(SettingError, match=r"pip install 'rehead\[images\]'"):
        Classifier(str(base), tune="head").fit(paths, [path.parent.name for path in paths])


@pytest.mark.slow
@pytest.mark.parametrize("base", ["tfidf", "tiny"])
def test_texts_need_the_core_alone(base: str, tmp_path: Path, bases: Callable[[str], str]) -> None:
    data = write_messages(tmp_path / "data.csv")
    chosen = bases("bert") if base == "tiny" else base
    command = [sys.executable, "-c", _WITHOUT_EXTRAS, str(data), chosen, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ham\n"
