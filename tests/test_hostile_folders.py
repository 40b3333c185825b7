"""A model folder that somebody else has made is loaded, or refused in one line; nothing else, whatever is in it."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rehead import Classifier
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import MANIFEST
from rehead.models.loading import load
from rehead.runtime.errors import ArtifactError, BaseModelError, RheadError
from tests.saved_folders import configure, describe, seal
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages
from tests.tiny_vision_models import CONFIGS as VISION
from tests.tiny_vision_models import save_tiny_vision_model

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    base = save_tiny_model(folder / "base", "llama")
    Classifier(str(base), tune="head", depth=2, pool="mean").fit(*messages(60)).save(folder / "model")
    return folder / "model"


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def replace_by_device(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")


class Runs:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def new_weights(folder: Path, content: bytes) -> None:
    """With the checksum that they ought to have, which an attacker can compute, too."""
    (folder / WEIGHTS).write_bytes(content)
    seal(folder)


def header(told: dict[str, Any], length: int | None = None) -> bytes:
    content = json.dumps(told).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content


GIANT = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
ATTACKS: dict[str, Callable[[Path], object]] = {
    "a link to a file elsewhere": lambda folder: (folder / "notes.md").symlink_to("/etc/passwd"),
    "a link to a folder elsewhere": lambda folder: (folder / "adapter").symlink_to("/etc"),
    "a device": lambda folder: os.mkfifo(folder / "notes.txt"),
    "pickled weights beside": lambda folder: (folder / "pytorch_model.bin").write_bytes(pickle.dumps([1])),
    "code beside": lambda folder: (folder / "modeling.py").write_text("import os"),
    "code for the tokenizer": lambda folder: configure(
        folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokens.Slow", None]}, tokenizer_class="Slow"
    ),
    "pickled weights under the name": lambda folder: new_weights(folder, pickle.dumps([1] * 1000)),
    "a header longer than the file": lambda folder: new_weights(folder, header({}, 2**60)),
    "a header of a giant tensor": lambda folder: new_weights(folder, header({"model.embed_tokens.weight": GIANT})),
    "no weights at all": lambda folder: new_weights(folder, header({})),
    "an empty file": lambda folder: new_weights(folder, b""),
    "a giant embedding": lambda folder: configure(folder, vocab_size=10**9),
    "giant blocks": lambda folder: configure(folder, hidden_size=2**20, intermediate_size=2**20),
    "blocks without end": lambda folder: configure(folder, num_hidden_layers=10**9),
    "fewer than no blocks": lambda folder: configure(folder, num_hidden_layers=-1),
    "labels by number": lambda folder: configure(folder, num_labels=10**9),
    "a configuration that is a device": lambda folder: replace_by_device(folder, "config.json"),
    "a tokenizer that is a device": lambda folder: replace_by_device(folder, "tokenizer.json"),
    "a description that is a device": lambda folder: replace_by_device(folder, MANIFEST),
    "another family": lambda folder: configure(folder, model_type="bert"),
    "a family that is none": lambda folder: configure(folder, model_type="../../bert"),
    "no number of heads": lambda folder: configure(folder, num_attention_heads=0),
    "JSON without end": lambda folder: (folder / MANIFEST).write_text("[" * 10**6),
    "no JSON object": lambda folder: (folder / MANIFEST).write_text("[1]"),
    "views without end": lambda folder: describe(folder, views=10**12, average_views=True),
    "labels that are none": lambda folder: describe(folder, labels=[1, {}]),
    "labels without end": lambda folder: describe(folder, labels=[str(i) for i in range(10**5)]),
    "other arguments": lambda folder: describe(folder, recipe={"base": "elsewhere"}),
    "a rule that is none": lambda folder: describe(folder, decisions={"threshold": {"label": "?", "at": "x"}}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_an_attacker_made_is_refused_in_one_line(attack: str, folder: Path) -> None:
    ATTACKS[attack](folder)
    with pytest.raises(ArtifactError) as refused:
        load_artifact(folder)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt2", {"n_layer": 10**9}),
        ("distilbert", {"n_layers": 10**9}),
        ("convnext", {"depths": [1, 1, 10**9, 1]}),
        ("resnet", {"depths": [10**9, 1, 1, 1]}),
    ],
)
def test_layers_without_end_are_refused_whatever_they_are_called(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    save = save_tiny_vision_model if family in VISION else save_tiny_model
    save(tmp_path / "base", family)
    load(str(tmp_path / "base"), 2, seed=0)
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(BaseModelError, match=next(iter(changes))):
        load(str(tmp_path / "base"), 2, seed=0)


def test_giants_take_no_memory(saved: Path, tmp_path: Path) -> None:
    folders = []
    for attack in ("a giant embedding", "giant blocks", "a header of a giant tensor"):
        folders.append(shutil.copytree(saved, tmp_path / attack))
        ATTACKS[attack](folders[-1])
    script = """
import resource, sys
from pathlib import Path
from rehead.artifact.loading import load_artifact
from rehead.runtime.errors import ArtifactError
refused = 0
for folder in sys.argv[1:]:
    try:
        load_artifact(Path(folder))
    except ArtifactError:
        refused += 1
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run([sys.executable, "-c", script, *folders], stdout=subprocess.PIPE, text=True, check=True)
    refused, peak = map(int, done.stdout.split())
    assert refused == 3
    assert peak < 2e9


ENDLESS: dict[str, Callable[[Path], object]] = {
    "num_labels": lambda folder: configure(folder, num_labels=10**9),
    "num_labels within": lambda folder: configure(folder, text_config={"num_labels": 10**9}),
    "num_hidden_layers": lambda folder: configure(folder, num_hidden_layers=10**9),
    "config.json": lambda folder: replace_by_device(folder, "config.json"),
    "tokenizer.json": lambda folder: replace_by_device(folder, "tokenizer.json"),
}


def test_bases_without_end_are_refused_before_they_are_read(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "base", "llama")
    folders = [shutil.copytree(tmp_path / "base", tmp_path / name) for name in ENDLESS]
    for folder, attack in zip(folders, ENDLESS.values(), strict=True):
        attack(folder)
    script = """
import resource, sys
from rehead.models.loading import load
from rehead.runtime.errors import BaseModelError
refused = 0
for folder in sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)
    try:
        load(folder, 2, seed=0)
    except BaseModelError:
        refused += 1
print(refused, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], stdout=subprocess.PIPE, text=True, check=True, timeout=300
    )
    refused, peak = map(int, done.stdout.split())
    assert refused == len(ENDLESS)
    assert peak < 2e9


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "optimizer.pt", WEIGHTS])
def test_nothing_is_unpickled(name: str, folder: Path, tmp_path: Path) -> None:
    content = pickle.dumps(Runs(tmp_path / "ran"))
    if name == WEIGHTS:
        new_weights(folder, content)
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError):
        load_artifact(folder)
    assert not (tmp_path / "ran").exists()


def test_a_link_to_the_folder_itself_is_none_of_these(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(folder)
    assert load_artifact(tmp_path / "current").labels == ("ham", "spam")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"max_position_embeddings": -1}),
        ("config.json", {"max_position_embeddings": 0}),
        ("tokenizer_config.json", {"model_max_length": -1}),
        ("tokenizer_config.json", {"model_max_length": "many"}),
    ],
)
def test_a_length_that_is_none_is_refused(name: str, changes: dict[str, Any], folder: Path) -> None:
    configure(folder, name, **changes)
    with pytest.raises(RheadError, match=r"cannot take a single token|cannot be loaded|config\.json"):
        load_artifact(folder).scores(["win free cash"])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_the_description_is_used_or_refused(data: st.DataObject, folder: Path, saved: Path) -> None:
    told = json.loads((saved / MANIFEST).read_text())
    del told["sha256"]
    name = data.draw(st.sampled_from(sorted(told)))
    value = data.draw(VALUES)
    (folder / MANIFEST).write_text(json.dumps({**told, name: value}))
    used_or_refused(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_in_the_configuration_is_used_or_refused(data: st.DataObject, folder: Path, saved: Path) -> None:
    told = json.loads((saved / "config.json").read_text())
    name = data.draw(st.sampled_from(sorted(told)))
    (folder / "config.json").write_text(json.dumps({**told, name: data.draw(VALUES)}))
    seal(folder)
    used_or_refused(folder)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_any_file_are_used_or_refused(data: st.DataObject, folder: Path, saved: Path) -> None:
    name = data.draw(st.sampled_from(sorted(path.name for path in saved.iterdir() if path.is_file())))
    content = bytearray((saved / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
    (folder / name).write_bytes(content)
    try:
        if name != MANIFEST:
            seal(folder)
        used_or_refused(folder)
    finally:
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)


def used_or_refused(folder: Path) -> None:
    """Anything else that is raised fails the test."""
    said = ""
    answers = []
    try:
        loaded = load_artifact(folder)
        answers = loaded.rule.answers(loaded.scores(["win free cash"]).probabilities, loaded.labels)
    except RheadError as refused:
        said = str(refused)
    assert len(answers) == 1 or (said and "\n" not in said)
