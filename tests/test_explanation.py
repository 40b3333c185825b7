"""Explanations: a word's weight is what its absence changes, and the examples told are the most similar."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rehead import Classifier
from rehead.analysis.explanation import explain
from rehead.artifact import explanation
from rehead.artifact.artifact import Reference
from rehead.artifact.explanation import contributions
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Scores
from rehead.data.examples import Examples
from rehead.evaluation.baselines import Baselines, learn
from rehead.models.ngrams import Ngrams
from rehead.workflows.fit import fit
from tests.saved_folders import change_manifest
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("data") / "messages.csv")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    folder = tmp_path_factory.mktemp("explained")
    base = save_tiny_model(folder / "base", "llama")
    fit(str(data), Classifier(str(base), tune="head", depth=2, pool="mean"), folder / "model")
    return folder / "model"


def test_weight_is_what_the_words_absence_takes_from_the_log_odds(model: Path) -> None:
    explained = explain(model, "win free lunch")
    loaded = load_artifact(model)
    label = loaded.labels.index(explained.label)
    whole, without = loaded.scores(["win free lunch", "win  lunch"]).probabilities[:, label]
    expected = np.log(whole / (1 - whole)) - np.log(without / (1 - without))
    assert [piece.text for piece in explained.pieces] == ["win", "free", "lunch"]
    assert explained.pieces[1].weight == pytest.approx(expected, abs=1e-5)
    assert explained.probabilities[explained.label] == pytest.approx(whole, abs=1e-5)


@pytest.fixture(scope="module")
def model_with_ngrams(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with its baseline beside the head, whether or not that helps it."""
    loaded = Classifier.load(model)
    change_manifest(loaded, baseline_factor=0.4)
    folder = tmp_path_factory.mktemp("explained") / "with-ngrams"
    loaded.save(folder)
    return folder


@pytest.mark.parametrize("text", ["win free, lunch!", "lunch at  noon " * 40, "free", "zebra", " "])
def test_what_ngrams_say_of_the_words_adds_up_to_what_they_say_of_the_text(model_with_ngrams: Path, text: str) -> None:
    explained = explain(model_with_ngrams, text)
    loaded = load_artifact(model_with_ngrams)
    assert loaded.beside is not None
    baseline, factor = loaded.beside
    logits = baseline.logits([text]) - baseline.logits([""])
    label = loaded.labels.index(explained.label)
    expected = factor * (logits[0, label] - logits[0, 1 - label])
    assert sum(piece.ngrams or 0.0 for piece in explained.pieces) == pytest.approx(expected, abs=1e-5)
    assert explained.baseline_factor == 0.4


def test_of_several_classes_each_word_is_for_one_against_the_mean_of_the_others(model_with_ngrams: Path) -> None:
    loaded = load_artifact(model_with_ngrams)
    weight = np.array([[3.0, 0.0, 1.0]], dtype=np.float32)
    ngrams = Ngrams(
        np.sort(Ngrams.fit_transform(["win", "win"])[0].words), np.array([], np.uint64), np.ones(1, np.float32)
    )
    three = Baselines(np.array(0), ngrams, weight, np.zeros(3, np.float32))
    assert loaded.reference is not None
    other = replace(loaded, reference=Reference.of(three, loaded.reference.seen))
    (found,) = explanation.ngram_weights(other, " win", [explanation.Piece(1, 4, 0.0)], label=0) or []
    assert found == pytest.approx(0.4 * (3.0 - 0.5))


SENTENCES = ["恭喜您中奖了免费领取", "免费领取大奖请回复", "今天中午一起吃饭吗", "晚上回家一起吃饭"] * 3


def test_an_ideograph_is_a_word_of_its_own(tmp_path: Path) -> None:
    texts = [f"{sentence}{i}" for i, sentence in enumerate(SENTENCES)]
    Classifier("tfidf").fit(texts, ["spam", "spam", "ham", "ham"] * 3).save(tmp_path / "model")
    explained = explain(tmp_path / "model", "免费领取 free, 吃饭。")
    assert [piece.text for piece in explained.pieces] == [*"免费领取", "free,", *"吃饭", "。"]
    weights = {piece.text: piece.weight for piece in explained.pieces}
    assert explained.label == "spam"
    assert weights["领"] > 0 > weights["饭"]


def test_ideographs_share_what_the_ngrams_say_of_their_run(model_with_ngrams: Path) -> None:
    loaded = load_artifact(model_with_ngrams)
    labels = np.array([1, 1, 0, 0] * 3)
    train = Examples(SENTENCES, labels, ("ham", "spam"), np.arange(12), "sentences")
    learned = learn(train, train)
    assert loaded.reference is not None
    other = replace(loaded, reference=Reference.of(learned, loaded.reference.seen))
    text = "免费领取 now 吃饭"
    pieces = [explanation.Piece(*span, 0.0) for span in explanation._spans(text, 64)]
    weights = explanation.ngram_weights(other, text, pieces, label=1)
    assert weights is not None
    assert weights[0] == weights[3] > 0 > weights[5] == weights[6]
    logits = learned.logits([text]) - learned.logits([""])
    assert sum(weights) == pytest.approx(0.4 * (logits[0, 1] - logits[0, 0]), abs=1e-5)


def test_without_ngrams_beside_the_head_there_is_nothing_to_say_of_them(model: Path, tmp_path: Path) -> None:
    loaded = Classifier.load(model)
    change_manifest(loaded, baseline_factor=0.0)
    loaded.save(tmp_path / "alone")
    assert [piece.ngrams for piece in explain(tmp_path / "alone", "win free lunch").pieces] == [None] * 3


def test_command_prints_both_weights_of_a_word(
    in_process: Callable[..., tuple[int, str, str]], model_with_ngrams: Path
) -> None:
    code, printed, _ = in_process("explain", model_with_ngrams, "win free lunch")
    assert code == 0
    assert re.search(r"weight\s+n-grams\s+word", printed)
    assert re.search(r"[+-]\d\.\d\d\s+[+-]\d\.\d\d\s+lunch", printed)


class Words:
    """Stands for a classifier whose log odds of spam are the sum of its words' weights: occlusion must find these."""

    weights: ClassVar = {"win": 2.0, "free": 1.0, "lunch": -1.5}

    def scores(self, texts: list[str]) -> Scores:
        odds = np.array([sum(self.weights.get(word, 0.0) for word in text.split()) for text in texts])
        spam = 1 / (1 + np.exp(-odds))
        return Scores(np.stack([1 - spam, spam], axis=1), np.zeros(len(texts), np.int64), 0.0)


def test_weights_of_words_that_add_up_are_found() -> None:
    (for_spam, for_ham), _ = contributions(Words(), ["win a free lunch", "lunch"])  # type: ignore[arg-type]
    assert [piece.weight for piece in for_spam] == pytest.approx([2.0, 0.0, 1.0, -1.5])
    assert [piece.weight for piece in for_ham] == pytest.approx([1.5])


def test_long_text_is_taken_apart_into_runs_of_words(model: Path) -> None:
    text = "lunch at  noon " * 40
    (pieces,), _ = contributions(load_artifact(model), [text], pieces=10)
    assert len(pieces) == 10
    assert pieces[0].start == 0
    assert text[pieces[0].start : pieces[0].end].split() == ["lunch", "at", "noon"] * 4


@given(st.text(max_size=60), st.integers(1, 8))
def test_pieces_are_in_order_and_hold_all_that_is_no_white_space(text: str, pieces: int) -> None:
    spans = explanation._spans(text, pieces)
    assert len(spans) <= pieces
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())


def test_text_without_words_has_no_pieces(model: Path) -> None:
    assert explain(model, "  ").pieces == []


def test_most_similar_examples_are_told_and_a_text_is_most_like_itself(model: Path, data: Path) -> None:
    text = data.read_text().splitlines()[7].split(",")[0]
    near = explain(model, text, str(data)).neighbours
    assert (near[0].row, near[0].text) == (8, text)
    assert near[0].similarity == pytest.approx(1, abs=1e-4)
    similarities = [neighbour.similarity for neighbour in near]
    assert similarities == sorted(similarities, reverse=True)
    assert len(near) == 5
