"""Encoders whose layers stay frozen are plain modules, with Transformers' weights, tokens and files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import rehead
from rehead import Classifier
from rehead.models import loading
from rehead.models.inference_modules import InferenceModel
from rehead.models.loading import load_folder, load_frozen
from rehead.models.registry import CATALOGUE
from rehead.models.text_backbone import TextBackbone
from rehead.models.tokenization import encode
from rehead.runtime.errors import BaseModelError
from tests.tiny_texts import messages, write_csv

FAMILIES = ("bert", "roberta", "mpnet")
TEXTS, LABELS = messages(40)


def frozen(folder: str, depth: int | None = None) -> TextBackbone:
    plain = load_frozen(Path(folder), "tiny", 3, 7, depth)
    assert plain is not None
    return plain


@pytest.mark.parametrize("depth", [None, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_and_the_drawn_head_are_those_of_transformers(
    bases: Callable[[str], str], family: str, depth: int | None
) -> None:
    plain, full = frozen(bases(family), depth), load_folder(Path(bases(family)), "tiny", 3, 7, depth)
    ours, theirs = plain.model.state_dict(), full.model.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert torch.equal(ours[name], weight), name
    assert (plain.published_layers, plain.architectures) == (full.published_layers, full.architectures)
    assert encode(plain, TEXTS, 64).ids.values.tolist() == encode(full, TEXTS, 64).ids.values.tolist()


def test_depth_that_is_not_there_is_refused(bases: Callable[[str], str]) -> None:
    with pytest.raises(BaseModelError, match="has 4 layers; `depth` must be from 1 to 4, not 9"):
        frozen(bases("bert"), 9)


def test_decoders_and_poolers_that_would_be_random_are_left_to_transformers(
    bases: Callable[[str], str], tmp_path: Path
) -> None:
    assert load_frozen(Path(bases("llama")), "tiny", 2, 0) is None
    assert load_frozen(Path(bases("distilbert")), "tiny", 2, 0) is None
    model = AutoModelForSequenceClassification.from_pretrained(bases("bert")).bert
    model.pooler = None
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bases("bert")).save_pretrained(tmp_path)
    assert load_frozen(tmp_path, "tiny", 2, 0) is None


@pytest.fixture
def in_catalogue(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets a folder stand for minilm."""
    return lambda folder: monkeypatch.setattr(loading, "locate", lambda _: Path(folder))


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_saves_what_it_saves_with_transformers(
    bases: Callable[[str], str],
    tmp_path: Path,
    in_catalogue: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    pool: str,
) -> None:
    in_catalogue(bases(family))
    folders = [tmp_path / "plain", tmp_path / "full"]
    for folder in folders:
        if folder.name == "full":
            monkeypatch.setattr(loading, "load_frozen", lambda *_: None)
        model = Classifier("minilm", tune="head", depth=2, pool=pool).fit(TEXTS, LABELS)
        assert isinstance(model.artifact_.backbone.model, InferenceModel) == (folder.name == "plain")
        model.save(folder)
    plain, full = ({file.name: file for file in folder.iterdir()} for folder in folders)
    assert plain.keys() == full.keys()
    assert plain["model.safetensors"].stat().st_size == full["model.safetensors"].stat().st_size
    with_head = AutoModelForSequenceClassification if pool == "cls" else None
    states = [_state(folder, with_head) for folder in folders]
    assert states[0].keys() == states[1].keys()
    for name, weight in states[1].items():
        assert torch.equal(states[0][name], weight), name
    ours, theirs = (AutoConfig.from_pretrained(folder).to_dict() for folder in folders)
    assert {**ours, "_name_or_path": ""} == {**theirs, "_name_or_path": ""}
    backends = [json.loads(AutoTokenizer.from_pretrained(folder).backend_tokenizer.to_str()) for folder in folders]
    assert backends[0] == backends[1]
    assert np.allclose(*(_scores(folder) for folder in folders), atol=1e-7)


def _state(folder: Path, auto: Any) -> dict[str, torch.Tensor]:
    return dict(auto.from_pretrained(folder).state_dict() if auto else load_file(folder / "model.safetensors"))


def _scores(folder: Path) -> np.ndarray:
    return rehead.load(folder).predict_proba(TEXTS)


def test_layers_that_are_trained_are_those_of_transformers(
    bases: Callable[[str], str], in_catalogue: Callable[[str], None]
) -> None:
    in_catalogue(bases("bert"))
    model = Classifier("minilm", tune="last-1", depth=2, pool="mean", epochs=1).fit(TEXTS, LABELS)
    assert not isinstance(model.artifact_.backbone.model, InferenceModel)


NOT_IMPORTED = ("transformers", "sympy", "torch._dynamo", "peft", "gguf")


def test_a_fit_of_the_head_imports_no_transformers(bases: Callable[[str], str], tmp_path: Path) -> None:
    # Takes a process of its own, because what this one has imported is there already.
    write_csv(tmp_path / "data.csv", ["text", "label"], list(zip(TEXTS, LABELS, strict=True)))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from rehead import cli\n"
        "from rehead.models import loading\n"
        f"loading.locate = lambda _: Path({bases('bert')!r})\n"
        "try:\n"
        f"    cli.main(['fit', {str(tmp_path / 'data.csv')!r}, '--base', 'minilm', '--preset', 'quick', "
        f"'-o', {str(tmp_path / 'model')!r}])\n"
        "finally:\n"
        f"    print([name for name in {NOT_IMPORTED} if name in sys.modules])\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm", "mpnet"])
def test_published_encoders_have_the_tokenizers_that_transformers_makes_of_them(name: str) -> None:
    assert name in CATALOGUE
    folder = loading.locate(name)
    plain, full = load_frozen(folder, name, 2, 0), load_folder(folder, name, 2, 0)
    assert plain is not None
    backends = [base.tokenizer.backend_tokenizer for base in (plain, full)]
    for backend in backends:
        backend.no_truncation()
        backend.no_padding()
    assert json.loads(backends[0].to_str()) == json.loads(backends[1].to_str())
    assert plain.tokenizer.pad_token_id == full.tokenizer.pad_token_id
    assert plain.config.pad_token_id == full.config.pad_token_id
    assert plain.tokenizer.model_max_length == full.tokenizer.model_max_length
    ours, theirs = plain.model.state_dict(), full.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[each], weight) for each, weight in theirs.items())
