"""An ONNX export runs in JavaScript with transformers.js, and gives the same labels there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from rehead import Classifier
from rehead.evaluation import likelihood
from rehead.export import onnx_file
from rehead.export.workflow import export
from rehead.runtime import files
from tests.tiny_texts import messages, write_messages

PACKAGE = "@huggingface/transformers@4.3.2"
CODE = """
import { env, pipeline } from "@huggingface/transformers";
env.allowRemoteModels = false;
env.localModelPath = process.argv[2];
const texts = JSON.parse(process.argv[3]);
for (const dtype of ["fp32", "q8"]) {
  const classify = await pipeline("text-classification", "export", { dtype });
  const answers = [];
  for (const text of texts) answers.push(await classify(text, { top_k: null }));
  console.log(JSON.stringify(answers));
}
"""


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """transformers.js, fetched once."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not on this machine")
    folder = files.cache_folder() / "packages" / re.sub(r"[^\w.-]+", "-", PACKAGE).strip("-")
    if not (folder / "node_modules").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot fetch {PACKAGE}: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_labels_and_scores_are_the_same(
    node_modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str
) -> None:
    # A head on so few different words is too steep for 8-bit integers; here they need only be the same as in Python.
    monkeypatch.setattr("rehead.export.comparison.NEEDED_AGREEMENT", 0.0)
    texts, labels = messages(120)
    model = Classifier("minilm", ngrams=False, tune="head", depth=3, pool=pool).fit(texts, labels)
    model.save(tmp_path / "model")
    data = write_messages(tmp_path / "messages.csv", 60)
    export(tmp_path / "model", "onnx", tmp_path / "export", int8=True, data=str(data))
    asked = ["win a free prize", "see you at noon for lunch, won't you?", "Ünïcode, too: 免费"]
    (tmp_path / "run.mjs").write_text(CODE)
    (tmp_path / "node_modules").symlink_to(node_modules)
    command = ["node", "run.mjs", str(tmp_path), json.dumps(asked)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    in_float32, in_int8 = (json.loads(line) for line in done.stdout.strip().splitlines())
    run = onnx_file.OnnxRunner(tmp_path / "export", model.artifact_.backbone, onnx_file.INT8_FILE)
    rounded = likelihood.probabilities(np.concatenate([run([text]) for text in asked]), multilabel=False)
    for rows, expected in ((in_float32, model.predict_proba(asked)), (in_int8, rounded)):
        for answers, row in zip(rows, expected, strict=True):
            found = {answer["label"]: answer["score"] for answer in answers}
            assert answers[0]["label"] == model.classes_[row.argmax()]
            np.testing.assert_allclose([found[label] for label in model.classes_], row, atol=1e-3)
