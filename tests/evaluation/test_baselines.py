"""The baselines, as saved and restored, are scikit-learn's own."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from rehead.data.examples import Examples
from rehead.evaluation.baselines import Baselines, learn
from tests.tiny_texts import messages


def examples_of(texts: list[str], labels: list[int], names: tuple[str, ...] = ("ham", "spam")) -> Examples:
    return Examples(texts, np.array(labels, dtype=np.int64), names, np.arange(1, len(texts) + 1), "test")


def tiny_messages(n: int, start: int) -> Examples:
    texts, labels = messages(n, start)
    return examples_of(texts, [int(label == "spam") for label in labels])


def restored(baselines: Baselines, tmp_path: Path) -> Baselines:
    save_file(baselines.tensors(), tmp_path / "baselines.safetensors")
    return Baselines.from_tensors(load_file(tmp_path / "baselines.safetensors"))


@pytest.fixture
def learned() -> Baselines:
    return learn(tiny_messages(40, 0), tiny_messages(10, 40))


THREE = ("news", "ham", "spam")
TRAIN_THREE = examples_of(
    [
        "win cash",
        "free prize",
        "win a prize",
        "lunch at noon",
        "meet at home",
        "home at noon",
        "vote counted",
        "new vote",
    ],
    [2, 2, 2, 1, 1, 1, 0, 0],
    THREE,
)
UNSEEN = ["win prize", "noon", "vote", "free lunch at home", "", "zebra", "win win win at noon"]


def sklearn_predictions(train: Examples, validation: Examples, texts: list[str]) -> list[int]:
    """TF-IDF and logistic regression as one writes them by hand; validation chooses C."""
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(train.texts)
    losses = {}
    for strength in (1.0, 10.0, 100.0):
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, train.labels)
        held_out = model.predict_log_proba(vectorizer.transform(validation.texts))
        losses[strength] = -held_out[np.arange(len(validation)), validation.labels].mean(), model
    model = min(losses.values(), key=lambda pair: pair[0])[1]
    return model.predict(vectorizer.transform(texts)).tolist()


def test_restored_tfidf_predicts_what_scikit_learn_predicts_with_two_classes(tmp_path: Path) -> None:
    train, validation = tiny_messages(40, 0), tiny_messages(10, 40)
    texts = [*tiny_messages(40, 50).texts, "free lunch", "", "zebra"]
    assert restored(learn(train, validation), tmp_path).predict_tfidf(texts).tolist() == sklearn_predictions(
        train, validation, texts
    )


def test_restored_tfidf_predicts_what_scikit_learn_predicts_with_three_classes(tmp_path: Path) -> None:
    validation = examples_of(["win a lunch", "noon vote", "vote"], [2, 1, 0], THREE)
    expected = sklearn_predictions(TRAIN_THREE, validation, UNSEEN)
    assert restored(learn(TRAIN_THREE, validation), tmp_path).predict_tfidf(UNSEEN).tolist() == expected
    assert len(set(expected)) == 3


def test_tfidf_learns_words_that_separate(learned: Baselines) -> None:
    test = tiny_messages(20, 50)
    assert learned.predict(test)["tfidf"].tolist() == test.labels.tolist()


def test_majority_is_the_most_frequent_training_class() -> None:
    assert learn(TRAIN_THREE, TRAIN_THREE).majority in (1, 2)
    more_news = examples_of(["vote", "new vote", "votes", "cash", "noon"], [0, 0, 0, 2, 1], THREE)
    assert learn(more_news, more_news).majority == 0


def test_majority_says_the_same_of_every_text(learned: Baselines) -> None:
    assert learned.majority == 0
    assert learned.predict_majority(["free prize", "lunch at noon", "home later"]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_missing_from_training_is_never_predicted(tmp_path: Path, missing: int) -> None:
    kept = np.flatnonzero(TRAIN_THREE.labels != missing)
    baselines = restored(learn(TRAIN_THREE.take(kept), TRAIN_THREE), tmp_path)
    predicted = set(baselines.predict_tfidf([*TRAIN_THREE.texts, *UNSEEN]).tolist())
    assert predicted == {0, 1, 2} - {missing}


def test_texts_without_words_fall_back_on_the_majority(tmp_path: Path) -> None:
    wordless = examples_of(["!", "?", "...", "x", "1 2"], [0, 1, 1, 1, 0])
    baselines = restored(learn(wordless, wordless), tmp_path)
    assert baselines.predict_tfidf(["?", "win cash"]).tolist() == [1, 1]


def test_a_text_of_unknown_words_gets_a_prediction(learned: Baselines) -> None:
    assert learned.predict_tfidf(["zebra", ""]).tolist() in ([0, 0], [1, 1])


def test_words_in_other_scripts_survive_saving(tmp_path: Path) -> None:
    train = examples_of(["приз сейчас", "обед дома", "приз приз", "обед в полдень"], [1, 0, 1, 0])
    baselines = restored(learn(train, train), tmp_path)
    assert "приз" in baselines.vocabulary
    assert baselines.predict_tfidf(["приз", "обед"]).tolist() == [1, 0]


def test_learning_twice_gives_the_same_arrays() -> None:
    first, second = (learn(TRAIN_THREE, TRAIN_THREE).tensors() for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
