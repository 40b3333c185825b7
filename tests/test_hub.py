"""A classifier goes to the model hub and comes back the same, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from sklearn.base import clone

from rehead import ArtifactError, Classifier
from tests.fake_hub import COMMIT, FakeHub, serving
from tests.tiny_texts import messages

TEXTS, LABELS = messages(40)
NAME = "someone/filter"


@pytest.fixture(scope="module")
def model(bases: Callable[[str], str]) -> Classifier:
    return Classifier(bases("bert"), ngrams=False, tune="lora", depth=2, pool="cls", epochs=1).fit(TEXTS, LABELS)


@pytest.fixture
def saved(model: Classifier, tmp_path: Path) -> Path:
    assert model.save_pretrained(tmp_path / "model") is None
    return tmp_path / "model"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving() as running:
        yield running


def fill(hub: FakeHub, folder: Path) -> None:
    """As if somebody had put the folder there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    hub.files[NAME] = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run(hub: FakeHub, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """In a process whose hub is the one on loopback: huggingface_hub reads its environment when it is imported."""
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"} | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_TOKEN": "hf_x",
        "HF_HUB_DISABLE_XET": "1",  # a protocol of its own, which the fake does not speak
        "NO_PROXY": "127.0.0.1",
    }
    code = f"from rehead import Classifier\nfrom pathlib import Path\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def reached(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """The hub on loopback as this process's own."""
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)
    return hub


def test_a_folder_is_loaded_as_it_was_saved(model: Classifier, saved: Path) -> None:
    loaded = Classifier.from_pretrained(saved)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), model.predict_proba(TEXTS), atol=1e-6)


def test_a_changed_folder_is_refused(saved: Path) -> None:
    (saved / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        Classifier.from_pretrained(str(saved))


def test_the_estimator_has_no_parameter_more(model: Classifier) -> None:
    assert set(clone(model).get_params()) == set(Classifier().get_params())


def test_a_pushed_classifier_is_fetched_and_scores_the_same(
    model: Classifier, saved: Path, hub: FakeHub, tmp_path: Path
) -> None:
    (saved / "report.html").write_text("a text that was classified wrongly")
    done = run(
        hub,
        tmp_path,
        f"""
model = Classifier.load({str(saved)!r})
print(model.push_to_hub({NAME!r}, private=True))
fetched = Classifier.from_pretrained({NAME!r})
assert (fetched.predict_proba({TEXTS!r}) == model.predict_proba({TEXTS!r})).all()
fetched.save("again")  # whole files, not links into the cache
assert not any(path.is_symlink() for path in Path("again").rglob("*"))
assert Path("again/adapter/adapter_config.json").is_file()
Classifier.from_pretrained({NAME!r}, local_files_only=True)
print(model.save_pretrained("other", push_to_hub=True, repo_id="someone/other"))
""",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"{hub.url}/{name}/commit/{COMMIT}" for name in (NAME, "someone/other")]
    assert hub.private == {NAME}
    here = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert set(hub.files[NAME]) == here - {"report.html"}
    assert "library_name: rehead" in hub.cards[0]  # which the hub is asked to validate


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"{}", "SHA-256 differs"),
        ("reference.safetensors", None, "is missing"),
        ("rehead.json", None, "no classifier 'someone/filter'"),
    ],
)
def test_what_was_changed_on_the_hub_is_refused(
    saved: Path, reached: FakeHub, file: str, content: bytes | None, said: str
) -> None:
    fill(reached, saved)
    if content is None:
        del reached.files[NAME][file]
    else:
        reached.files[NAME][file] = content
    with pytest.raises(ArtifactError, match=said):
        Classifier.from_pretrained(NAME)
    assert ("model.safetensors" in reached.fetched) == (file != "rehead.json")


def test_what_could_be_run_is_not_even_fetched(saved: Path, reached: FakeHub) -> None:
    fill(reached, saved)
    reached.files[NAME] |= {"pytorch_model.bin": b"x", "modeling.py": b"x", "head.pkl": b"x"}
    Classifier.from_pretrained(NAME)
    assert not {"pytorch_model.bin", "modeling.py", "head.pkl"} & set(reached.fetched)


def test_a_link_of_the_cache_that_leads_elsewhere_is_refused(saved: Path, reached: FakeHub, tmp_path: Path) -> None:
    fill(reached, saved)
    Classifier.from_pretrained(NAME)
    (manifest,) = (tmp_path / "cache").rglob("snapshots/*/rehead.json")
    (manifest.parent / "extra.json").symlink_to(saved / "config.json")
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        Classifier.from_pretrained(NAME, local_files_only=True)


def test_a_name_that_is_nowhere_is_one_line(reached: FakeHub) -> None:
    with pytest.raises(ArtifactError, match="no classifier 'nobody/nothing': no such folder here"):
        Classifier.from_pretrained("nobody/nothing")


def test_a_hub_that_does_not_take_it_is_one_line(model: Classifier, reached: FakeHub) -> None:
    reached.refuses = True
    with pytest.raises(ArtifactError, match="the hub does not take 'someone/filter'"):
        model.push_to_hub(NAME)
