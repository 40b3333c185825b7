"""An export scores as the saved classifier does, in batches and alone, with nothing of rehead; or it is not written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession
from tokenizers import Tokenizer
from transformers import pipeline

import rehead
from rehead import Classifier
from rehead.artifact.loading import load_artifact
from rehead.data.preparation import DataConfig
from rehead.evaluation import likelihood
from rehead.evaluation.decisions import SingleLabelRule
from rehead.export import comparison, inputs, ngram_file, onnx_file, quantisation
from rehead.export.workflow import export
from rehead.models import ngram_hashes
from rehead.models.ngrams import Ngrams
from rehead.runtime.errors import ArtifactError, DataError, SettingError
from rehead.workflows.fit import fit
from tests.saved_folders import change_manifest
from tests.tiny_images import image, save_folders
from tests.tiny_models import DECODERS, ENCODERS
from tests.tiny_texts import messages, write_csv, write_messages
from tests.tiny_vision_models import CONFIGS as VISION_CONFIGS
from tests.tiny_vision_models import SIDE as VISION_SIDE
from tests.tiny_vision_models import save_tiny_vision_model

TEXTS, LABELS = messages(40)
# One is far longer than the windows of windowed blocks, so that padding sees nothing there; one ends with the padding
# token, one is nothing else. All have the letter a, see tests/test_artifact.py.
SCORED = [
    "a",
    "meet you at a noon for a lunch at a home later and meet you at noon for a free lunch",
    "win cash now a",
    "a zebra call me <pad> <pad>",
    "<pad>",
]
# `both` is the mean and the token; what each does alone is the same code in every family.
POOLINGS = {
    **dict.fromkeys((*DECODERS, *ENCODERS), ("both", "layers")),
    "gpt2": ("last", "mean", "both", "layers"),
    "bert": ("cls", "mean", "both", "layers"),
}
# torch takes four seconds or more for an export, however small: the others are slow together.
FAST = [("gpt2", "both"), ("bert", "cls"), ("modernbert", "both")]
CASES = [
    pytest.param(family, pool, marks=() if (family, pool) in FAST else pytest.mark.slow)
    for family, poolings in POOLINGS.items()
    for pool in poolings
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv", 60)


@pytest.fixture(scope="module")
def saved(bases: Callable[[str], str], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder with `last` pooling that `rehead fit` has written."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    fit(DataConfig(str(data)), Classifier(bases("llama"), ngrams=False, tune="head", depth=2, pool="last"), folder)
    return folder


@pytest.fixture(scope="module")
def exported(saved: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an ONNX model."""
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(saved, "onnx", folder)
    return folder


def with_ngrams(model: Classifier, folder: Path, factor: float = 0.4) -> Path:
    """Save a classifier with its baseline beside the head, whether or not that helps it."""
    change_manifest(model, baseline_factor=factor)
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def saved_with_ngrams(bases: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = Classifier(bases("llama"), tune="head", depth=2, pool="last").fit(TEXTS, LABELS)
    return with_ngrams(model, tmp_path_factory.mktemp("saved") / "with-ngrams")


@pytest.fixture(scope="module")
def exported_with_ngrams(saved_with_ngrams: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(saved_with_ngrams, "onnx", folder, data=str(data))
    return folder


@pytest.fixture
def written(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the ONNX model of `saved` written without exporting it once more."""

    def write(_: Any, path: Path) -> None:
        shutil.copyfile(exported / "onnx" / "model.onnx", path)

    monkeypatch.setattr(onnx_file, "write", write)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folders(tmp_path_factory.mktemp("photos") / "stripes", 12)


def scores(folder: Path, texts: Sequence[str], file: str = "model.onnx") -> np.ndarray:
    """Probabilities by onnxruntime and tokenizers alone."""
    read = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(list(texts))
    fed = {
        "input_ids": np.array([text.ids for text in read], dtype=np.int64),
        "attention_mask": np.array([text.attention_mask for text in read], dtype=np.int64),
    }
    session = InferenceSession(folder / "onnx" / file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], fed)
    assert logits.dtype == np.float32
    odds = np.exp(logits - logits.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def assert_exports_the_same(model: Classifier, tmp_path: Path, data: Path) -> None:
    """In a batch with padding and alone."""
    model.save(tmp_path / "model")
    export(tmp_path / "model", "onnx", tmp_path / "onnx", data=str(data))
    expected = rehead.load(tmp_path / "model").predict_proba(SCORED)
    np.testing.assert_allclose(scores(tmp_path / "onnx", SCORED), expected, atol=1e-5)
    for text, row in zip(SCORED, expected, strict=True):
        np.testing.assert_allclose(scores(tmp_path / "onnx", [text])[0], row, atol=1e-5)


@pytest.mark.parametrize(("family", "pool"), CASES)
def test_onnx_model_gives_the_same_in_a_batch_with_padding_and_alone(
    bases: Callable[[str], str], data: Path, tmp_path: Path, family: str, pool: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Classifier(bases(family), ngrams=False, tune="head", depth=2, pool=pool).fit(TEXTS, LABELS)
    assert_exports_the_same(model, tmp_path, data)
    assert capfd.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize(("family", "tune"), [("llama", "lora"), ("bert", "last-1")])
def test_trained_blocks_are_exported(
    bases: Callable[[str], str], data: Path, tmp_path: Path, family: str, tune: str
) -> None:
    model = Classifier(bases(family), ngrams=False, tune=tune, depth=2, epochs=2, learning_rate=1e-2).fit(TEXTS, LABELS)
    assert_exports_the_same(model, tmp_path, data)


def test_a_text_of_no_tokens_is_the_padding_token_as_in_rehead(saved: Path, exported: Path) -> None:
    expected = rehead.load(saved).predict_proba(["", "a zebra"])
    np.testing.assert_allclose(scores(exported, ["", "a zebra"]), expected, atol=1e-5)


@pytest.mark.slow
def test_texts_are_cut_off_as_in_rehead(bases: Callable[[str], str], data: Path, tmp_path: Path) -> None:
    model = Classifier(bases("bert"), ngrams=False, tune="head", depth=1, pool="mean", max_length=6).fit(TEXTS, LABELS)
    assert_exports_the_same(model, tmp_path, data)
    assert json.loads((tmp_path / "onnx" / "export.json").read_text())["max_length"] == 6


def test_only_the_kept_blocks_are_in_the_file(exported: Path) -> None:
    weights = [weight.name for weight in onnx.load(exported / "onnx" / "model.onnx").graph.initializer]
    assert any("layers.1." in name for name in weights)
    assert not any("layers.2." in name for name in weights)


def test_batch_and_length_are_open_and_nothing_tells_of_this_machine(exported: Path) -> None:
    session = InferenceSession(exported / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert {given.name: given.shape for given in session.get_inputs()} == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", "sequence"],
    }
    assert [(result.name, result.shape) for result in session.get_outputs()] == [("logits", ["batch", 2])]
    assert b"site-packages" not in (exported / "onnx" / "model.onnx").read_bytes()


def test_folder_tells_labels_and_how_it_was_compared(saved: Path, exported: Path) -> None:
    told = json.loads((exported / "export.json").read_text())
    original = json.loads((saved / "rehead.json").read_text())
    assert told["labels"] == ["ham", "spam"]
    assert told["pool"] == "last"
    assert told["weights_sha256"] == original["weights_sha256"]
    assert told["decisions"] == original["decisions"]
    assert told["checked"]["compared"] == told["checked"]["same"] == 60
    assert json.loads((exported / "config.json").read_text())["id2label"] == {"0": "ham", "1": "spam"}


def run_readme(folder: Path) -> str:
    """What the code in the folder's README prints, in a process that cannot import rehead."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    code = f"import sys\nsys.modules['rehead'] = None\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def test_readme_of_a_text_model_works_without_rehead(saved: Path, exported: Path) -> None:
    first, second = run_readme(exported).strip().split("\n")
    model = rehead.load(saved)
    for line, text in ((first, "a text"), (second, "another, longer text")):
        label, told = line.split(" ", 1)
        assert label == model.predict([text])[0]
        p = dict(zip(("ham", "spam"), model.predict_proba([text])[0].round(4).tolist(), strict=True))
        assert {name: pytest.approx(value, abs=2e-4) for name, value in p.items()} == json.loads(told.replace("'", '"'))


def assert_readme_agrees(model: Path, exported: Path) -> None:
    """For the two texts of the README."""
    loaded, texts = rehead.load(model), ["a text", "another, longer text"]
    for line, row in zip(run_readme(exported).strip().split("\n"), loaded.predict_proba(texts), strict=True):
        label, told = line.split(" ", 1)
        found = json.loads(told.replace("'", '"'))
        assert label == max(found, key=lambda name: found[name])
        np.testing.assert_allclose(list(found.values()), row, atol=2e-4)


def test_ngrams_beside_the_head_are_in_the_graph(saved_with_ngrams: Path, exported_with_ngrams: Path) -> None:
    folder = exported_with_ngrams
    expected = rehead.load(saved_with_ngrams).predict_proba(SCORED)
    run = onnx_file.OnnxRunner(folder, load_artifact(saved_with_ngrams).backbone)
    np.testing.assert_allclose(likelihood.probabilities(run(SCORED), multilabel=False), expected, atol=1e-5)
    for text, row in zip(SCORED, expected, strict=True):
        np.testing.assert_allclose(likelihood.probabilities(run([text]), multilabel=False)[0], row, atol=1e-5)
    assert json.loads((folder / "export.json").read_text())["baseline_factor"] == 0.4
    assert (folder / "ngrams.py").read_text() == Path(ngram_hashes.__file__).read_text()


def test_readme_with_ngrams_works_without_rehead(saved_with_ngrams: Path, exported_with_ngrams: Path) -> None:
    assert_readme_agrees(saved_with_ngrams, exported_with_ngrams)


def test_ngrams_that_count_otherwise_are_not_kept(
    saved_with_ngrams: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_as_it_is = ngram_file.write

    def write(known: Ngrams, folder: Path) -> None:
        idf = known.idf * np.linspace(1, 2, known.width, dtype=np.float32)
        write_as_it_is(replace(known, idf=idf), folder)

    monkeypatch.setattr("rehead.export.workflow.ngram_file.write", write)
    with pytest.raises(ArtifactError, match=r"differ.*not kept"):
        export(saved_with_ngrams, "onnx", tmp_path / "onnx", data=str(data))
    assert not (tmp_path / "onnx").exists()


def test_int8_model_has_its_ngrams_in_integers_and_its_head_in_float32(
    saved_with_ngrams: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "_WORTHWHILE_BYTES", 0)
    result = export(saved_with_ngrams, "onnx", tmp_path / "onnx", int8=True, data=str(data))
    weights = {
        weight.name: weight
        for weight in onnx.load(tmp_path / "onnx" / "onnx" / "model_quantized.onnx").graph.initializer
    }
    assert "beside.weight_rounded" in weights
    assert not any(name.startswith("head.linear.weight") and "quantized" in name for name in weights)
    assert result.comparison.agreement >= 0.995


@pytest.mark.parametrize("form", ["onnx", "transformers"])
def test_colours_and_edges_beside_the_head_cannot_be_exported(photos: Path, tmp_path: Path, form: str) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "vit")
    paths = sorted(photos.rglob("*.png"))
    model = Classifier(str(base), tune="head", depth=1, pool="cls").fit(paths, [path.parent.name for path in paths])
    with pytest.raises(SettingError, match=r"colours and edges stand beside .* `ngrams=False`"):
        export(with_ngrams(model, tmp_path / "model"), form, tmp_path / "out", data=str(photos))
    assert not (tmp_path / "out").exists()


def test_transformers_format_is_refused_where_ngrams_stand_beside_the_head(
    saved_with_ngrams: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=r"n-grams stand beside .* fit with `ngrams=False`, or use `form='onnx'`"):
        export(saved_with_ngrams, "transformers", tmp_path / "plain", data=str(data))
    assert not (tmp_path / "plain").exists()


@pytest.mark.slow
def test_several_labels_a_text(bases: Callable[[str], str], data: Path, tmp_path: Path) -> None:
    indicator = np.array([[label == "spam", "free" in text] for text, label in zip(TEXTS, LABELS, strict=True)]).astype(
        int
    )
    Classifier(bases("bert"), ngrams=False, tune="head", depth=1, pool="mean").fit(TEXTS, indicator).save(
        tmp_path / "model"
    )
    export(tmp_path / "model", "onnx", tmp_path / "onnx", data=str(data))
    assert run_readme(tmp_path / "onnx").count("{'0': ") == 2
    odds = scores(tmp_path / "onnx", SCORED)
    p = rehead.load(tmp_path / "model").predict_proba(SCORED)
    # Of two logits a softmax tells the difference only.
    np.testing.assert_allclose(np.log(odds[:, 0] / odds[:, 1]), np.subtract(*np.log(p / (1 - p)).T), atol=1e-4)


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=() if name == "vit" else pytest.mark.slow) for name in VISION_CONFIGS],
)
def test_image_models_give_the_same_and_their_readme_works(photos: Path, tmp_path: Path, family: str) -> None:
    base = save_tiny_vision_model(tmp_path / "base", family)
    paths = sorted(photos.rglob("*.png"))
    pool = "both" if family == "vit" else "auto"
    model = Classifier(str(base), ngrams=False, tune="head", depth=3, pool=pool).fit(
        paths, [path.parent.name for path in paths]
    )
    model.save(tmp_path / "model")
    result = export(tmp_path / "model", "onnx", tmp_path / "onnx", data=str(photos))
    assert (result.what, result.comparison.compared, result.comparison.agreement) == ("images", 24, 1.0)
    new = image("upright", 77, side=61)
    new.save(tmp_path / "onnx" / "photo.jpg", "PNG")
    label, told = run_readme(tmp_path / "onnx").strip().split(" ", 1)
    p = dict(zip(("lying", "upright"), rehead.load(tmp_path / "model").predict_proba([new])[0].tolist(), strict=True))
    assert label == max(p, key=lambda name: p[name])
    assert json.loads(told.replace("'", '"')) == {name: pytest.approx(value, abs=2e-4) for name, value in p.items()}


def test_an_export_that_scores_otherwise_is_not_kept(
    saved: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_: Any, path: Path) -> None:
        """One norm's weights are a thousandth larger than they should be."""
        model = onnx.load(exported / "onnx" / "model.onnx")
        norm = next(weight for weight in model.graph.initializer if "layers.1.input_layernorm" in weight.name)
        norm.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(norm) * np.float32(1.001), norm.name))
        onnx.save(model, path)

    monkeypatch.setattr(onnx_file, "write", write)
    with pytest.raises(ArtifactError, match=r"differ.*not kept"):
        export(saved, "onnx", tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_int8_model_has_its_products_and_embeddings_in_integers(
    saved: Path, written: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantisation, "_WORTHWHILE_BYTES", 0)
    result = export(saved, "onnx", tmp_path / "onnx", int8=True)
    graph = onnx.load(tmp_path / "onnx" / "onnx" / "model_quantized.onnx").graph
    assert sum(node.op_type == "MatMulInteger" for node in graph.node) == 14  # seven in each of two blocks
    assert not any(
        "embed_tokens" in weight.name and weight.data_type == 1 and weight.dims[1] > 1 for weight in graph.initializer
    )
    assert result.int8
    assert result.comparison.agreement >= 0.995
    assert 0 < result.comparison.largest_difference.probability < 0.2
    expected = rehead.load(saved).predict_proba(TEXTS)
    np.testing.assert_allclose(scores(tmp_path / "onnx", TEXTS, "model_quantized.onnx"), expected, atol=0.2)
    np.testing.assert_allclose(scores(tmp_path / "onnx", TEXTS), expected, atol=1e-5)  # beside it, in float32
    assert 'InferenceSession("onnx/model_quantized.onnx")' in (tmp_path / "onnx" / "README.md").read_text()


def test_rounded_embeddings_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantisation, "_WORTHWHILE_BYTES", 0)
    generator = np.random.default_rng(0)
    table = np.concatenate([np.zeros((1, 8)), generator.normal(size=(39, 8)) * np.arange(1, 40)[:, None]]).astype(
        np.float32
    )
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Gather", ["table", "ids"], ["logits"], axis=0)],
            "lookup",
            [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n", "length"])],
            [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", "length", 8])],
            [onnx.numpy_helper.from_array(table, "table")],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    quantisation._round_embeddings(made.graph)
    ids = np.arange(40).reshape(4, 10)
    (found,) = InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"ids": ids})
    differences = np.abs(found - table[ids]).max(2)
    assert (differences <= np.abs(table[ids]).max(2) / 254 * 1.001).all()
    assert differences.max() > 0


def test_int8_that_changes_labels_is_refused_and_leaves_nothing(
    saved: Path, written: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose = SingleLabelRule.choose

    def otherwise(rule: Any, probabilities: np.ndarray) -> np.ndarray:
        """A rule for which the tenth digit counts."""
        return choose(rule, probabilities) + (probabilities[:, 0] * 1e10).astype(np.int64) % 2

    monkeypatch.setattr(SingleLabelRule, "choose", otherwise)
    with pytest.raises(ArtifactError, match=r"of 60 texts keep their labels .* 99\.5% have to.*leave `int8` out"):
        export(saved, "onnx", tmp_path / "onnx", int8=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_int8_is_refused_for_a_network_of_convolutions(photos: Path, tmp_path: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "resnet")
    paths = sorted(photos.rglob("*.png"))
    model = Classifier(str(base), ngrams=False, tune="head", depth=1).fit(paths, [path.parent.name for path in paths])
    model.save(tmp_path / "model")
    with pytest.raises(SettingError, match="convolutions instead"):
        export(tmp_path / "model", "onnx", tmp_path / "onnx", int8=True, data=str(photos))
    assert not (tmp_path / "onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_weights_beyond_the_limit_of_one_file_lie_beside_it(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, int8: bool
) -> None:
    monkeypatch.setattr("torch.onnx._internal.exporter._onnx_program._LARGE_MODEL_THRESHOLD", 1000)
    result = export(saved, "onnx", tmp_path / "onnx", int8=int8)
    file = "model_quantized.onnx" if int8 else "model.onnx"
    files = [tmp_path / "onnx" / "onnx" / name for name in (file, f"{file}.data")]
    assert result.bytes == sum(file.stat().st_size for file in files)
    np.testing.assert_allclose(
        scores(tmp_path / "onnx", TEXTS, file), rehead.load(saved).predict_proba(TEXTS), atol=0.2 if int8 else 1e-5
    )


@pytest.mark.parametrize(("family", "pool"), [("llama", "last"), pytest.param("bert", "cls", marks=pytest.mark.slow)])
def test_transformers_folder_loads_in_a_pipeline(
    bases: Callable[[str], str], data: Path, tmp_path: Path, family: str, pool: str
) -> None:
    Classifier(bases(family), ngrams=False, tune="head", depth=2, pool=pool).fit(TEXTS, LABELS).save(tmp_path / "model")
    result = export(tmp_path / "model", "transformers", tmp_path / "plain", data=str(data))
    assert not (tmp_path / "plain" / "rehead.json").exists()
    classify = pipeline("text-classification", model=str(tmp_path / "plain"), top_k=None, device="cpu")
    expected = rehead.load(tmp_path / "model").predict_proba(SCORED)
    for answers, row in zip(classify(SCORED, batch_size=4), expected, strict=True):
        found = {answer["label"]: answer["score"] for answer in answers}
        np.testing.assert_allclose([found["ham"], found["spam"]], row, atol=1e-4)
    assert result.comparison.largest_difference.probability <= 1e-4
    assert "'label': '" in run_readme(tmp_path / "plain")


@pytest.mark.parametrize(("family", "suited"), [("llama", "last"), ("bert", "cls")])
def test_transformers_format_is_refused_where_transformers_has_no_such_head(
    bases: Callable[[str], str], data: Path, tmp_path: Path, family: str, suited: str
) -> None:
    Classifier(bases(family), ngrams=False, tune="head", depth=1, pool="mean").fit(TEXTS, LABELS).save(
        tmp_path / "model"
    )
    with pytest.raises(SettingError, match=f"'mean' pooling; fit with `pool={suited!r}`"):
        export(tmp_path / "model", "transformers", tmp_path / "plain", data=str(data))
    assert not (tmp_path / "plain").exists()


@pytest.mark.parametrize(
    ("family", "pool", "said"), [("vit", "mean", "fit with `pool='cls'`"), ("convnext", "mean", "no image classifier")]
)
def test_transformers_format_is_refused_for_images_where_it_has_no_such_class(
    photos: Path, tmp_path: Path, family: str, pool: str, said: str
) -> None:
    image_classifier(photos, tmp_path, family, pool)
    with pytest.raises(SettingError, match=f"{said}.*`form='onnx'`"):
        export(tmp_path / "model", "transformers", tmp_path / "plain", data=str(photos))


def image_classifier(photos: Path, tmp_path: Path, family: str, pool: str) -> Classifier:
    """One that is saved as the folder `model`."""
    base = save_tiny_vision_model(tmp_path / "base", family)
    paths = sorted(photos.rglob("*.png"))
    model = Classifier(str(base), ngrams=False, tune="head", depth=2, pool=pool)
    model.fit(paths, [path.parent.name for path in paths]).save(tmp_path / "model")
    return model


@pytest.mark.parametrize(("family", "pool"), [("vit", "cls"), ("dinov2", "both"), ("resnet", "mean")])
def test_transformers_folder_of_images_loads_in_a_pipeline(
    photos: Path, tmp_path: Path, family: str, pool: str
) -> None:
    model = image_classifier(photos, tmp_path, family, pool)
    result = export(tmp_path / "model", "transformers", tmp_path / "plain", data=str(photos))
    assert result.comparison.largest_difference.probability <= 1e-4
    new = image("upright", 77, side=VISION_SIDE)  # of the model's own size, so that nothing has to be scaled
    (expected,) = model.predict_proba([new])
    for folder in ("plain", "model"):
        classify = pipeline("image-classification", model=str(tmp_path / folder), top_k=None, device="cpu")
        found = {answer["label"]: answer["score"] for answer in classify(new)}
        np.testing.assert_allclose([found["lying"], found["upright"]], expected, atol=1e-4)
    if family == "vit":
        new.save(tmp_path / "plain" / "photo.jpg", "PNG")
        assert "'label': '" in run_readme(tmp_path / "plain")


@pytest.mark.parametrize("long", ["chunks", "head-tail"])
def test_what_is_done_before_the_network_cannot_be_exported(
    bases: Callable[[str], str], tmp_path: Path, long: str
) -> None:
    model = Classifier(bases("bert"), ngrams=False, tune="head", depth=1, pool="mean", long=long).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    with pytest.raises(SettingError, match=f"`long={long!r}`"):
        export(tmp_path / "model", "onnx", tmp_path / "onnx")


def test_averaged_views_cannot_be_exported(photos: Path, tmp_path: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "resnet")
    paths = sorted(photos.rglob("*.png"))
    model = Classifier(str(base), ngrams=False, tune="head", depth=1, views=2, average_views=True)
    model.fit(paths, [path.parent.name for path in paths]).save(tmp_path / "model")
    with pytest.raises(SettingError, match="`views=1`"):
        export(tmp_path / "model", "onnx", tmp_path / "onnx", data=str(photos))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_missing_packages_are_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingError, match=rf"needs {package}; pip install 'rehead\[onnx\]'"):
        export(tmp_path / "no such model", "onnx", tmp_path / "onnx")


def test_what_is_no_export_is_not_overwritten(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.onnx").write_text("precious")
    for folder in (tmp_path / "mine", saved):
        before = sorted(folder.iterdir())
        with pytest.raises(ArtifactError, match="not an export of rehead's"):
            export(saved, "onnx", folder)
        assert sorted(folder.iterdir()) == before


def test_an_earlier_export_is_replaced(saved: Path, written: None, tmp_path: Path) -> None:
    export(saved, "onnx", tmp_path / "again")
    export(saved, "transformers", tmp_path / "again")
    assert not (tmp_path / "again" / "onnx").exists()
    assert (tmp_path / "again" / "model.safetensors").is_file()


@pytest.mark.parametrize(("form", "int8"), [("transformers", True), ("torchscript", False)])
def test_senseless_settings_are_refused(saved: Path, tmp_path: Path, form: str, int8: bool) -> None:
    with pytest.raises(SettingError, match=r"`int8` is for|`form` must be"):
        export(saved, form, tmp_path / "out", int8=int8)


def told_of(saved: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((saved / "rehead.json").read_text())
    return content


def test_texts_of_the_training_are_taken_where_none_are_given(saved: Path, data: Path) -> None:
    texts, source = inputs.read(None, None, told_of(saved), saved)
    assert (len(texts), source) == (60, str(data))


def test_texts_may_be_unlabelled_and_in_a_column_of_any_name(saved: Path, tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("a free prize\n\nlunch at noon\na free prize\n")
    assert inputs.read(str(lines), None, told_of(saved), saved)[0] == ["a free prize", "lunch at noon"]
    table = write_csv(tmp_path / "table.csv", ["text", "said"], [["a long text, really", "win"], ["b", "cash"]])
    assert inputs.read(str(table), "said", told_of(saved), saved)[0] == ["win", "cash"]


def test_data_that_is_not_there_is_asked_for(saved: Path, tmp_path: Path) -> None:
    told = told_of(saved)
    with pytest.raises(SettingError, match=r"does not say what it has learned from; give texts .* `data`"):
        inputs.read(None, None, {key: value for key, value in told.items() if key != "data"}, saved)
    with pytest.raises(SettingError, match=r"cannot be read any more .*gone\.csv: no such file.* `data`"):
        inputs.read(None, None, told | {"data": str(tmp_path / "gone.csv")}, saved)
    with pytest.raises(DataError, match="no text"):
        inputs.read(str(write_csv(tmp_path / "empty.csv", ["text", "x"], [["", "1"], [" ", "2"]])), None, told, saved)


def test_long_texts_are_compared_as_far_as_the_tokens_go(
    saved: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison, "_TOKENS", 10)
    classifier = load_artifact(saved)
    found = comparison.reference(classifier, inputs.read(str(data), None, told_of(saved), saved)[0])
    assert len(found.inputs) == 3  # of three tokens each
    expected = classifier.scores(found.inputs).probabilities
    np.testing.assert_allclose(likelihood.probabilities(found.logits, multilabel=False), expected, atol=1e-6)


def test_command_prints_lines_or_one_json_object(
    in_process: Callable[..., tuple[int, str, str]], saved: Path, written: None, tmp_path: Path
) -> None:
    code, printed, _ = in_process("export", saved, "--format", "transformers", "-o", tmp_path / "out")
    assert code == 0
    assert "60 of 60 texts keep their labels (100.00%)" in printed
    assert str(tmp_path / "out") in printed
    code, printed, _ = in_process("export", saved, "--format", "onnx", "--json", "-o", tmp_path / "out")
    facts = json.loads(printed)
    assert (code, facts["format"]) == (0, "onnx")
    assert facts["a_second"]["export"] > 0


def test_mistakes_end_the_command_with_one_line(
    in_process: Callable[..., tuple[int, str, str]], saved: Path, tmp_path: Path
) -> None:
    for wrong in (["onnx", "--data", "missing.csv"], ["transformers", "--int8"]):
        code, printed, said = in_process("export", saved, "--format", *wrong, "-o", tmp_path / "out")
        assert (code, printed) == (2, "")
        assert said.startswith("rehead: ")
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
