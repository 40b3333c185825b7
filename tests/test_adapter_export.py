"""Adapters and head alone, in the published base, are the classifier; peft finds all that it needs in their folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import rehead
from rehead import Classifier
from rehead.export.workflow import export
from rehead.runtime.errors import SettingError
from tests.tiny_texts import messages, write_messages

TEXTS, LABELS = messages(40)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 60)


def save(base: str, folder: Path, tune: str = "lora", pool: str = "cls", depth: int = 2) -> Path:
    model = Classifier(base, ngrams=False, tune=tune, depth=depth, pool=pool, epochs=2, learning_rate=1e-2)
    model.fit(TEXTS, LABELS).save(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "pool", "depth"),
    [
        ("bert", "cls", 2),
        ("llama", "last", 4),
        pytest.param("roberta", "cls", 4, marks=pytest.mark.slow),
        pytest.param("distilbert", "cls", 2, marks=pytest.mark.slow),
        pytest.param("modernbert", "cls", 4, marks=pytest.mark.slow),
        pytest.param("mpnet", "cls", 2, marks=pytest.mark.slow),
        pytest.param("gpt2", "last", 2, marks=pytest.mark.slow),
    ],
)
def test_adapters_in_the_published_base_give_the_same(
    bases: Callable[[str], str], data: Path, tmp_path: Path, family: str, pool: str, depth: int
) -> None:
    saved = save(bases(family), tmp_path / "model", pool=pool, depth=depth)
    result = export(saved, "peft", tmp_path / "out", data=str(data))
    assert result.comparison.largest_difference.probability <= 1e-4
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["task_type"], config["peft_type"]) == ("SEQ_CLS", "LORA")
    assert Path(config["base_model_name_or_path"]) == Path(bases(family)).resolve()
    assert not (tmp_path / "out" / "model.safetensors").exists()
    code = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = f"import sys\nsys.modules['rehead'] = None\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = rehead.load(str(saved))
    texts = ["a text", "another, longer text"]
    for line, row in zip(done.stdout.strip().splitlines(), model.predict_proba(texts), strict=True):
        label, said = line.split(" ", 1)
        assert label == model.classes_[row.argmax()]
        np.testing.assert_allclose(list(json.loads(said.replace("'", '"')).values()), row, atol=2e-4)


def test_it_is_small_and_holds_what_the_base_may_lack(bases: Callable[[str], str], data: Path, tmp_path: Path) -> None:
    saved = save(bases("bert"), tmp_path / "model")
    export(saved, "peft", tmp_path / "out", data=str(data))
    names = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {name for name in names if ".lora_" not in name} == {
        f"base_model.model.{module}.{part}"
        for module in ("classifier", "bert.pooler.dense")
        for part in ("weight", "bias")
    }
    assert all(name.startswith("base_model.model.bert.encoder.layer.") for name in names if ".lora_" in name)


@pytest.mark.parametrize(
    ("tune", "pool", "said"), [("head", "cls", "no adapters.*`tune='lora'`"), ("lora", "mean", "'mean' pooling")]
)
def test_what_has_no_adapters_for_such_a_model_is_refused(
    bases: Callable[[str], str], data: Path, tmp_path: Path, tune: str, pool: str, said: str
) -> None:
    saved = save(bases("bert"), tmp_path / "model", tune, pool)
    with pytest.raises(SettingError, match=said):
        export(saved, "peft", tmp_path / "out", data=str(data))
    assert not (tmp_path / "out").exists()
