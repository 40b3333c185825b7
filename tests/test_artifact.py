"""A saved classifier scores as it did in memory, in rehead and in Transformers, or it is not a saved classifier."""

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, PreTrainedModel, pipeline

import rehead
from rehead import ArtifactError, Classifier
from rehead.artifact import artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.manifest import FORMAT, MANIFEST, read_manifest
from rehead.artifact.saving import new_folder
from rehead.models.inference_modules import InferenceModel, is_plain
from rehead.models.text_backbone import TextBackbone
from rehead.runtime import files
from tests.saved_folders import configure, describe, seal
from tests.tiny_models import CONFIGS, DECODERS, ENCODERS, SPECIAL, save_tiny_model
from tests.tiny_texts import messages

TEXTS, LABELS = messages(40)
# Of different lengths, some with words that the tokenizer does not know, one of these at the end. Each has the
# letter a: Transformers reads a Qwen 2 tokenizer as Qwen's own kind, which knows no other piece of these words.
SCORED = ["a", "meet you at a noon for a lunch at a home", "win cash now", "zebra call me", "later ok yes and a zebra"]
WEIGHTS = "model.safetensors"


def family_pooling(family: str) -> str:
    return "last" if family in DECODERS else "cls"


def assert_scores_equal(first: np.ndarray, second: np.ndarray, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(first, second, atol=tolerance, rtol=0)


def assert_pipeline_agrees(folder: Path, expected: np.ndarray, batch_size: int) -> None:
    classify = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")
    for answers, row in zip(classify(SCORED, batch_size=batch_size), expected, strict=True):
        scores = {answer["label"]: answer["score"] for answer in answers}
        assert answers[0]["label"] == ("ham", "spam")[row.argmax()]
        assert_scores_equal(np.array([scores["ham"], scores["spam"]]), row, 1e-4)


@pytest.fixture(scope="module")
def mean_classifier(bases: Callable[[str], str]) -> Classifier:
    return Classifier(bases("llama"), tune="head", depth=2, pool="mean").fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def last_classifier(bases: Callable[[str], str]) -> Classifier:
    return Classifier(bases("llama"), ngrams=False, tune="head", depth=2, pool="last").fit(TEXTS, LABELS)


@pytest.fixture
def saved(last_classifier: Classifier, tmp_path: Path) -> Path:
    last_classifier.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def saved_mean(mean_classifier: Classifier, tmp_path: Path) -> Path:
    mean_classifier.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("tune", ["head", "last-1"])
@pytest.mark.parametrize(
    ("family", "pool"),
    [("llama", "last"), ("llama", "mean"), ("llama", "both"), ("bert", "cls"), ("bert", "mean"), ("bert", "both")],
)
def test_loaded_classifier_scores_as_it_did_in_memory(
    bases: Callable[[str], str], tmp_path: Path, family: str, pool: str, tune: str
) -> None:
    model = Classifier(bases(family), depth=2, pool=pool, tune=tune, epochs=1).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    assert_scores_equal(rehead.load(tmp_path / "model").predict_proba(SCORED), model.predict_proba(SCORED))


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("family", CONFIGS)
def test_transformers_pipeline_gives_the_same_labels_and_scores(
    bases: Callable[[str], str], tmp_path: Path, family: str, batch_size: int
) -> None:
    model = Classifier(bases(family), ngrams=False, tune="head", depth=3, pool=family_pooling(family))
    model.fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    assert_pipeline_agrees(tmp_path / "model", model.predict_proba(SCORED), batch_size)


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_transformers_pipeline_gives_the_same_after_training_a_block(
    bases: Callable[[str], str], tmp_path: Path, family: str
) -> None:
    pool = family_pooling(family)
    model = Classifier(bases(family), ngrams=False, tune="last-1", epochs=2, depth=3, pool=pool).fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    assert_pipeline_agrees(tmp_path / "model", model.predict_proba(SCORED), batch_size=4)


WITHOUT_PAD = {name: token for name, token in SPECIAL.items() if name != "pad_token"}
TOKENIZERS = {
    "pad is eos": {**SPECIAL, "pad_token": SPECIAL["eos_token"]},
    "no pad": WITHOUT_PAD,
    "no pad, no bos": {name: token for name, token in WITHOUT_PAD.items() if name != "bos_token"},
}


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("special", TOKENIZERS.values(), ids=TOKENIZERS.keys())
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pipeline_agrees_whatever_padding_token_a_decoder_came_with(
    tmp_path: Path, family: str, special: dict[str, str], batch_size: int
) -> None:
    base = save_tiny_model(tmp_path / "base", family, special)
    model = Classifier(str(base), ngrams=False, tune="head", depth=2, pool="last").fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    assert_pipeline_agrees(tmp_path / "model", model.predict_proba(SCORED), batch_size)


@pytest.mark.parametrize("family", ["llama", "gpt2", *ENCODERS])
def test_with_mean_pooling_transformers_loads_the_backbone(
    bases: Callable[[str], str], tmp_path: Path, family: str
) -> None:
    model = Classifier(bases(family), tune="head", depth=2, pool="mean").fit(TEXTS, LABELS)
    model.save(tmp_path / "model")
    backbone, loading = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    expected = model.artifact_.backbone.body.state_dict()
    assert not [name for name in loading["missing_keys"] if "pooler" not in name]
    for name, weight in backbone.state_dict().items():
        if "pooler" not in name:
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=0)


def test_saved_folder_has_as_many_blocks_as_were_kept(saved: Path) -> None:
    assert json.loads((saved / "config.json").read_text())["num_hidden_layers"] == 2


NOT_IMPORTED = (
    *("transformers", "huggingface_hub", "sklearn", "scipy", "pandas", "matplotlib", "torchmetrics", "peft", "gguf"),
    *("torch._dynamo", "rich.progress", "rehead.training", "rehead.drift", "rehead.evaluation.baselines"),
)


def test_predicting_does_not_wait_for_what_only_training_needs(saved: Path) -> None:
    code = (
        "import sys\n"
        "from rehead import cli\n"
        "try:\n"
        f"    cli.main(['predict', {str(saved)!r}, '-'])\n"
        "finally:\n"
        f"    print([name for name in {NOT_IMPORTED} if name in sys.modules])\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], input="win cash now", capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "[]", finished.stderr


def test_configuration_names_the_labels(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    assert config["id2label"] == {"0": "ham", "1": "spam"}
    assert config["label2id"] == {"ham": 0, "spam": 1}


def test_nothing_in_the_folder_is_pickled(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} <= {
        ".json",
        ".jsonl",
        ".safetensors",
        ".md",
        ".html",
        ".txt",
        ".jinja",
    }


def test_description_says_how_the_classifier_was_made(saved: Path, last_classifier: Classifier) -> None:
    description = json.loads((saved / MANIFEST).read_text())
    assert (description["labels"], description["pool"], description["depth"]) == (["ham", "spam"], "last", 2)
    assert description["base"] == last_classifier.base
    assert set(description["versions"]) == {"rehead", "python", "torch", "transformers"}
    assert description["weights_sha256"] == files.sha256_of(saved / WEIGHTS)


def test_saving_does_not_change_the_classifier_in_memory(last_classifier: Classifier, tmp_path: Path) -> None:
    before = last_classifier.predict_proba(SCORED)
    last_classifier.save(tmp_path / "model")
    np.testing.assert_array_equal(last_classifier.predict_proba(SCORED), before)


def test_saving_twice_writes_the_same_bytes(saved: Path, last_classifier: Classifier, tmp_path: Path) -> None:
    last_classifier.save(tmp_path / "again")
    names = sorted(path.name for path in saved.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (saved / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_saved_files_can_be_read_by_others(saved: Path) -> None:
    assert {path.stat().st_mode & 0o777 for path in saved.iterdir()} == {0o644}


# What is not as it was saved is not loaded.


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Changes tensors and makes the recorded SHA-256 agree, as a careless tool would."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    seal(folder)


@pytest.mark.parametrize("position", [0.01, 0.5, 0.999])
def test_a_flipped_bit_in_the_weights_is_an_error_that_names_the_file(saved: Path, position: float) -> None:
    content = bytearray((saved / WEIGHTS).read_bytes())
    content[int(position * len(content))] ^= 1
    (saved / WEIGHTS).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"model/{WEIGHTS}"):
        load_artifact(saved)


FILES = [WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json", "reference.safetensors"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_any_file_that_answers_rest_on_is_an_error_that_names_the_file(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"model/{name} is not the file that was saved .* copy the model again"):
        load_artifact(saved)


def test_every_file_but_documents_has_its_checksum_in_the_manifest(saved: Path) -> None:
    hashes = json.loads((saved / MANIFEST).read_text())["files"]
    documents = (".md", ".html", ".jsonl")
    others = [path for path in saved.iterdir() if path.name != MANIFEST and path.suffix not in documents]
    assert hashes == {path.name: files.sha256_of(path) for path in others}


def test_documents_for_people_may_be_rewritten(saved: Path, last_classifier: Classifier) -> None:
    last_classifier.save(saved, documents={"README.md": "as it was", "report.html": "<p>"})
    (saved / "README.md").write_text("in other words")
    (saved / "report.html").unlink()
    assert rehead.load(saved).predict(["win cash now"]).shape == (1,)


def test_a_folder_from_before_there_were_checksums_of_all_files_is_loaded(saved: Path) -> None:
    expected = rehead.load(saved).predict_proba(SCORED)
    describe(saved, files=...)
    (saved / "tokenizer_config.json").write_text((saved / "tokenizer_config.json").read_text() + "\n")
    assert_scores_equal(rehead.load(saved).predict_proba(SCORED), expected)


@pytest.mark.parametrize("name", ["/etc/passwd", "../elsewhere", "a/../../b"])
def test_checksums_of_files_elsewhere_are_an_error(saved: Path, name: str) -> None:
    describe(saved, files={name: "0" * 64})
    with pytest.raises(ArtifactError, match="'files' is missing or makes no sense"):
        load_artifact(saved)


@pytest.mark.parametrize("changes", [{"id2label": {"0": "spam", "1": "ham"}}, {"label2id": {"spam": 0, "ham": 1}}])
def test_labels_in_another_order_in_the_configuration_are_an_error(saved: Path, changes: dict[str, Any]) -> None:
    configure(saved, **changes)
    with pytest.raises(ArtifactError, match=r"id2label or label2id in config\.json and labels in rehead\.json differ"):
        load_artifact(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["rms_norm_eps", "attention_dropout"])
def test_a_number_in_the_configuration_that_is_none_is_an_error(saved: Path, name: str, value: float) -> None:
    configure(saved, **{name: value})
    with pytest.raises(ArtifactError, match=r"config\.json|no number"):
        load_artifact(saved)


def test_weights_that_are_no_numbers_are_an_error_and_never_a_prediction(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors["score.weight"].fill_(float("nan")))
    with pytest.raises(ArtifactError, match="no probabilities"):
        rehead.load(saved).predict(["win cash now"])


def test_loading_and_saving_elsewhere_loses_nothing(saved: Path, last_classifier: Classifier, tmp_path: Path) -> None:
    last_classifier.save(saved, documents={"README.md": "words"}, entries={"data": "messages.csv"})
    (saved / "fingerprint.safetensors").write_bytes(b"read by others")
    seal(saved)
    rehead.load(saved).save(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {path.name for path in saved.iterdir()}
    for path in saved.iterdir():
        if path.name != MANIFEST:
            assert (tmp_path / "copy" / path.name).read_bytes() == path.read_bytes(), path.name
    before, after = (json.loads((folder / MANIFEST).read_text()) for folder in (saved, tmp_path / "copy"))
    assert {**before, "files": after["files"], "sha256": after["sha256"]} == after
    rehead.load(tmp_path / "copy").save(tmp_path / "copy")
    assert rehead.load(tmp_path / "copy").artifact_.manifest.others == {"data": "messages.csv"}


@pytest.mark.parametrize(
    ("family", "pool"),
    [(family, pool) for family in ("bert", "roberta", "mpnet") for pool in ("cls", "mean")]
    + [("llama", "last"), ("llama", "mean")],
)
def test_plain_modules_score_as_those_of_transformers(
    bases: Callable[[str], str], tmp_path: Path, family: str, pool: str
) -> None:
    Classifier(bases(family), tune="head", depth=2, pool=pool).fit(TEXTS, LABELS).save(tmp_path / "model")
    plain = load_artifact(tmp_path / "model")
    full = load_artifact(tmp_path / "model", with_transformers=True)
    assert isinstance(plain.backbone.model, InferenceModel)
    assert isinstance(full.backbone.model, PreTrainedModel)
    long = " ".join(SCORED * 8)
    for texts in (SCORED, ["", long]):
        assert_scores_equal(plain.scores(texts).probabilities, full.scores(texts).probabilities, 1e-6)
    served = plain.predictor(serving=True, label=None).scores(SCORED).probabilities
    assert_scores_equal(served, full.scores(SCORED).probabilities, 0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "gelu_new"},
        {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}},
        {"attention_bias": True},
        {"num_hidden_layers": 10**9},
        {"hidden_size": "32"},
    ],
)
def test_what_plain_modules_do_not_know_is_left_to_transformers(saved: Path, changes: dict[str, Any]) -> None:
    content = json.loads((saved / "config.json").read_text())
    assert is_plain(content)
    assert not is_plain({**content, **changes})


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST, "config.json", "tokenizer.json"])
def test_a_missing_file_is_an_error(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ArtifactError, match="model"):
        load_artifact(saved)


@pytest.mark.parametrize("name", [MANIFEST, "config.json", "tokenizer.json", WEIGHTS])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00garbage", b"[1, 2]", b"null"])
def test_garbage_in_a_file_is_an_error(saved: Path, name: str, content: bytes) -> None:
    (saved / name).write_bytes(content)
    if name != MANIFEST:
        seal(saved)
    with pytest.raises(ArtifactError, match="model"):
        load_artifact(saved)


def test_any_flipped_bit_of_the_description_is_an_error(saved: Path) -> None:
    content = (saved / MANIFEST).read_bytes()
    draw = random.Random(0)  # noqa: S311
    for at in draw.sample(range(len(content)), 40):
        flipped = bytearray(content)
        flipped[at] ^= 1 << draw.randrange(7)
        (saved / MANIFEST).write_bytes(flipped)
        with pytest.raises(ArtifactError, match=re.escape(MANIFEST)):
            read_manifest(saved)


def test_what_other_libraries_make_of_a_full_disk_is_named(tmp_path: Path) -> None:
    refused = pytest.raises(ArtifactError, match=r"cannot write .*model \(File too large \(os error 27\)\); free some")
    with refused, new_folder(tmp_path / "model"):
        raise Exception("File too large (os error 27)")  # as tokenizers raises it


def test_garbage_in_the_reference_is_an_error(saved: Path) -> None:
    (saved / "reference.safetensors").write_bytes(b"garbage")
    seal(saved)
    with pytest.raises(ArtifactError, match="model"):
        load_artifact(saved)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder"):
        load_artifact(tmp_path / "nowhere")


def test_a_format_from_the_future_is_an_error_that_says_so(saved: Path) -> None:
    describe(saved, format=FORMAT + 1)
    with pytest.raises(ArtifactError, match=f"format {FORMAT + 1}.*update"):
        load_artifact(saved)


@pytest.mark.parametrize("key", ["format", "base", "labels", "pool", "max_length", "temperature", "weights_sha256"])
def test_a_description_that_lacks_an_entry_is_an_error(saved: Path, key: str) -> None:
    describe(saved, **{key: ...})
    with pytest.raises(ArtifactError, match="model"):
        load_artifact(saved)


@pytest.mark.parametrize("key", ["tune", "depth", "seed", "validation_log_loss"])
def test_a_description_that_lacks_what_the_estimator_needs_is_an_error(saved: Path, key: str) -> None:
    describe(saved, **{key: ...})
    with pytest.raises(ArtifactError, match="model"):
        Classifier.load(saved)


@pytest.mark.parametrize("labels", [["ham"], ["ham", "spam", "news"]])
def test_labels_that_do_not_fit_the_trained_head_are_an_error(saved: Path, labels: list[str]) -> None:
    describe(saved, labels=labels)
    with pytest.raises(ArtifactError):
        load_artifact(saved)


@pytest.mark.parametrize("labels", [["ham"], ["ham", "spam", "news"]])
def test_labels_that_do_not_fit_a_head_of_reheads_own_are_an_error(saved_mean: Path, labels: list[str]) -> None:
    describe(saved_mean, labels=labels)
    with pytest.raises(ArtifactError):
        load_artifact(saved_mean)


def test_a_family_head_missing_from_the_file_is_an_error(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors.pop("score.weight"))
    with pytest.raises(ArtifactError, match=r"score\.weight"):
        load_artifact(saved)


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("family", ENCODERS)
def test_any_part_of_an_encoders_head_missing_from_the_file_is_an_error(
    bases: Callable[[str], str], tmp_path: Path, family: str, part: str
) -> None:
    Classifier(bases(family), tune="head", depth=1, pool="cls").fit(TEXTS, LABELS).save(tmp_path / "model")
    name = {"roberta": "classifier.out_proj", "mpnet": "classifier.out_proj"}.get(family, "classifier")
    rewrite_weights(tmp_path / "model", lambda tensors: tensors.pop(f"{name}.{part}"))
    with pytest.raises(ArtifactError):
        load_artifact(tmp_path / "model")


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "bert.pooler.dense.weight"),
        ("roberta", "classifier.dense.weight"),
        ("mpnet", "classifier.dense.weight"),
        ("distilbert", "pre_classifier.weight"),
        ("modernbert", "head.dense.weight"),
    ],
)
def test_a_layer_between_pooling_and_head_missing_from_the_file_is_an_error(
    bases: Callable[[str], str], tmp_path: Path, family: str, name: str
) -> None:
    Classifier(bases(family), tune="head", depth=1, pool="cls").fit(TEXTS, LABELS).save(tmp_path / "model")
    rewrite_weights(tmp_path / "model", lambda tensors: tensors.pop(name))
    with pytest.raises(ArtifactError):
        load_artifact(tmp_path / "model")


@pytest.mark.parametrize("name", ["rehead_head.weight", "rehead_head.bias"])
def test_a_head_of_reheads_own_missing_from_the_file_is_an_error(saved_mean: Path, name: str) -> None:
    rewrite_weights(saved_mean, lambda tensors: tensors.pop(name))
    with pytest.raises(ArtifactError, match=r"model"):
        load_artifact(saved_mean)


def test_a_block_missing_from_the_file_is_an_error(saved: Path) -> None:
    rewrite_weights(saved, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ArtifactError, match=r"layers\.1\.mlp\.up_proj"):
        load_artifact(saved)


# What does not score as it should is not kept.


def assert_nothing_written(parent: Path) -> None:
    assert list(parent.iterdir()) == []


def test_a_head_of_reheads_own_written_wrongly_is_found_and_not_kept(
    mean_classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = artifact._tensors

    def otherwise(*of_model: Any) -> dict[str, torch.Tensor]:
        return {name: -each if "rehead_head" in name else each for name, each in right(*of_model).items()}

    monkeypatch.setattr(artifact, "_tensors", otherwise)
    with pytest.raises(ArtifactError, match="differ from those in memory"):
        mean_classifier.save(tmp_path / "model")
    assert_nothing_written(tmp_path)


def save_with_another_head(model: Any) -> Callable[..., None]:
    """Transformers' own save_pretrained, after which the head is another."""
    right = model.save_pretrained

    def save_pretrained(folder: Path, **options: Any) -> None:
        right(folder, **options)
        tensors = load_file(folder / WEIGHTS)
        tensors["score.weight"] = -tensors["score.weight"]
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return save_pretrained


def test_a_family_head_written_wrongly_is_found_and_not_kept(
    last_classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = last_classifier.artifact_.backbone.model
    monkeypatch.setattr(model, "save_pretrained", save_with_another_head(model))
    with pytest.raises(ArtifactError, match="differ from those in memory"):
        last_classifier.save(tmp_path / "model")
    assert_nothing_written(tmp_path)


def test_a_save_that_fails_its_verification_leaves_the_older_model(
    last_classifier: Classifier, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    model = last_classifier.artifact_.backbone.model
    monkeypatch.setattr(model, "save_pretrained", save_with_another_head(model))
    with pytest.raises(ArtifactError):
        last_classifier.save(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_an_older_model_is_replaced_whole(last_classifier: Classifier, saved_mean: Path) -> None:
    (saved_mean / "of the older model.txt").write_text("old")
    last_classifier.save(saved_mean)
    assert not (saved_mean / "of the older model.txt").exists()
    assert_scores_equal(rehead.load(saved_mean).predict_proba(SCORED), last_classifier.predict_proba(SCORED))
    assert [path.name for path in saved_mean.parent.iterdir()] == [saved_mean.name]


def test_a_folder_with_something_else_in_it_is_not_overwritten(last_classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="not a rehead model"):
        last_classifier.save(tmp_path / "model")
    assert (tmp_path / "model" / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["thesis.txt"]


def test_an_empty_folder_can_be_saved_to(last_classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    last_classifier.save(tmp_path / "model")
    assert_scores_equal(rehead.load(tmp_path / "model").predict_proba(SCORED), last_classifier.predict_proba(SCORED))


def test_folder_from_before_an_encoders_means_had_one_length_scores_as_it_did(
    bases: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as before:
        before.setattr(TextBackbone, "means_at_one_length", False)
        old = Classifier(bases("bert"), tune="head", depth=2, pool="both").fit(TEXTS, LABELS)
        old.save(tmp_path / "model")
    description = tmp_path / "model" / MANIFEST
    told = json.loads(description.read_text())
    assert told.pop("means_at_one_length") is False
    del told["sha256"]  # as it was before there was one
    description.write_text(json.dumps(told))
    assert_scores_equal(rehead.load(tmp_path / "model").predict_proba(SCORED), old.predict_proba(SCORED))
    new = Classifier(bases("bert"), tune="head", depth=2, pool="both").fit(TEXTS, LABELS)
    assert np.abs(new.predict_proba(SCORED) - old.predict_proba(SCORED)).max() > 1e-4
    new.save(tmp_path / "new")
    assert_scores_equal(rehead.load(tmp_path / "new").predict_proba(SCORED), new.predict_proba(SCORED))
