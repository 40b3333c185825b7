"""The baselines learn, come back from disk, and say what each word adds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from rehead.data.examples import Examples
from rehead.evaluation import baselines, image_features, sparse_regression
from rehead.evaluation.baselines import Baselines, learn, out_of_fold, relearn
from rehead.evaluation.image_features import ColoursAndEdges
from tests.tiny_texts import messages


def examples_of(texts: list[str], labels: list[int], names: tuple[str, ...] = ("ham", "spam")) -> Examples:
    return Examples(texts, np.array(labels, dtype=np.int64), names, np.arange(1, len(texts) + 1), "test")


def tiny_messages(n: int, start: int) -> Examples:
    texts, labels = messages(n, start)
    return examples_of(texts, [int(label == "spam") for label in labels])


def restored(learned: Baselines, tmp_path: Path) -> Baselines:
    save_file(learned.tensors(), tmp_path / "baselines.safetensors")
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


def test_restored_ones_give_the_same_logits(learned: Baselines, tmp_path: Path) -> None:
    texts = [*tiny_messages(20, 50).texts, *UNSEEN]
    again = restored(learned, tmp_path)
    np.testing.assert_array_equal(again.logits(texts), learned.logits(texts))
    assert learned.logits(texts).dtype == np.float32
    np.testing.assert_array_equal(again.predict_regression(texts), learned.predict_regression(texts))


def test_logits_are_those_of_the_probabilities() -> None:
    three = learn(TRAIN_THREE, TRAIN_THREE)
    np.testing.assert_allclose(three.probabilities(UNSEEN), softmax(three.logits(UNSEEN), axis=1), atol=1e-6)


@pytest.mark.parametrize("text", ["win a prize, win!", "Straße am Mittag", "", "中文字符 prize"])
def test_contributions_of_the_words_and_the_bias_are_the_logits(text: str) -> None:
    three = learn(TRAIN_THREE, TRAIN_THREE)
    spans, weights = three.contributions(text)
    np.testing.assert_allclose(weights.sum(0) + three.bias, three.logits([text])[0], atol=1e-5)
    assert [text[start:end] for start, end in spans][:2] in (["win", "a"], ["Straße", "am"], [], ["中文字符", "prize"])


def test_word_of_a_class_speaks_for_it() -> None:
    three = learn(TRAIN_THREE, TRAIN_THREE)
    _, weights = three.contributions("vote win")
    assert weights[0].argmax() == 0
    assert weights[1].argmax() == 2


def test_tfidf_learns_words_that_separate(learned: Baselines) -> None:
    test = tiny_messages(20, 50)
    assert learned.predict(test)["tfidf"].tolist() == test.labels.tolist()


def test_majority_is_the_most_frequent_training_class() -> None:
    assert learn(TRAIN_THREE, TRAIN_THREE).majority in (1, 2)
    more_news = examples_of(["vote", "new vote", "votes", "cash", "noon"], [0, 0, 0, 2, 1], THREE)
    assert learn(more_news, more_news).majority == 0


def test_majority_says_the_same_of_every_text(learned: Baselines) -> None:
    assert learned.majority == 0
    assert learned.predict_majority(3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_missing_from_training_is_never_predicted(tmp_path: Path, missing: int) -> None:
    kept = np.flatnonzero(TRAIN_THREE.labels != missing)
    again = restored(learn(TRAIN_THREE.take(kept), TRAIN_THREE), tmp_path)
    predicted = set(again.predict_regression([*TRAIN_THREE.texts, *UNSEEN]).tolist())
    assert predicted == {0, 1, 2} - {missing}


def test_texts_without_ngrams_fall_back_on_the_majority(tmp_path: Path) -> None:
    nothing = examples_of(["", " ", "\n", "\t", ""], [0, 1, 1, 1, 0])
    again = restored(learn(nothing, nothing), tmp_path)
    assert again.predict_regression(["?", "win cash"]).tolist() == [1, 1]
    np.testing.assert_array_equal(again.probabilities(["?"]), [[0.5, 0.5]])


def test_texts_of_which_nothing_is_known_get_the_same_prediction(learned: Baselines) -> None:
    assert learned.predict_regression(["中文", ""]).tolist() in ([0, 0], [1, 1])


@pytest.mark.parametrize(
    ("texts", "unseen"),
    [
        (["приз сейчас", "обед дома", "приз приз", "обед в полдень"], ["призы", "обедать"]),
        (["恭喜您获得大奖", "中午一起吃午饭", "点击领取大奖", "回家吃午饭吗"], ["大奖等您", "午饭吃什么"]),
    ],
)
def test_other_scripts_and_inflected_words_are_learned(texts: list[str], unseen: list[str], tmp_path: Path) -> None:
    train = examples_of(texts, [1, 0, 1, 0])
    assert restored(learn(train, train), tmp_path).predict_regression(unseen).tolist() == [1, 0]


def test_folder_of_an_earlier_version_scores_as_scikit_learn_does(tmp_path: Path) -> None:
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    features = vectorizer.fit_transform(TRAIN_THREE.texts)
    model = LogisticRegression(C=10, max_iter=1000).fit(features, TRAIN_THREE.labels)
    words = json.dumps(vectorizer.get_feature_names_out().tolist()).encode()
    earlier = {
        "majority": np.array([1]),
        "words": np.frombuffer(words, dtype=np.uint8),
        "idf": vectorizer.idf_.astype(np.float32),
        "weight": model.coef_.T.astype(np.float32),
        "bias": model.intercept_.astype(np.float32),
    }
    loaded = Baselines.from_tensors(earlier)
    texts = [*UNSEEN, "Win, WIN a Prize!"]
    expected = model.decision_function(vectorizer.transform(texts))
    np.testing.assert_allclose(loaded.logits(texts), expected, atol=1e-5)
    np.testing.assert_allclose(restored(loaded, tmp_path).logits(texts), expected, atol=1e-5)
    with pytest.raises(ValueError, match="fit again"):
        loaded.contributions("win")


def test_scoring_imports_no_scikit_learn(learned: Baselines, tmp_path: Path) -> None:
    save_file(learned.tensors(), tmp_path / "baselines.safetensors")
    code = (
        "import sys; from safetensors.numpy import load_file; from rehead.evaluation.baselines import Baselines; "
        f"Baselines.from_tensors(load_file({str(tmp_path / 'baselines.safetensors')!r})).logits(['win']); "
        "print('sklearn' in sys.modules)"
    )
    source = str(Path(baselines.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert told.stdout == "False\n"


def test_learning_twice_gives_the_same_arrays() -> None:
    first, second = (learn(TRAIN_THREE, TRAIN_THREE).tensors() for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def multilabel_of(examples: Examples) -> Examples:
    """Return the same texts, each with its class; the first class of three is what none has, the last what all have."""
    ones = np.eye(len(examples.label_names), dtype=np.int64)[examples.labels]
    none, every = np.zeros((len(ones), 1), np.int64), np.ones((len(ones), 1), np.int64)
    names = ("none", *examples.label_names, "all")
    return Examples(examples.texts, np.hstack([none, ones, every]), names, examples.lines, "test")


def test_strength_is_kept_and_comes_back(learned: Baselines, tmp_path: Path) -> None:
    assert learned.strength in baselines._INVERSE_STRENGTHS
    assert restored(learned, tmp_path).strength == learned.strength
    earlier = {name: array for name, array in learned.tensors().items() if name != "strength"}
    assert Baselines.from_tensors(earlier).strength is None


@pytest.mark.parametrize("best", range(7))
def test_search_finds_the_least_loss_on_either_side(best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    least = baselines._INVERSE_STRENGTHS[best]
    at = {}

    def solve(self: object, strength: float) -> tuple[np.ndarray, np.ndarray]:
        at["loss"] = 1 + abs(np.log(strength / least))
        return np.zeros((width, 2), np.float32), np.zeros(2, np.float32)

    width = learn(tiny_messages(40, 0), tiny_messages(10, 40)).features.width
    monkeypatch.setattr(baselines._TextRegression, "solve", solve)
    monkeypatch.setattr(baselines.likelihood, "losses", lambda *_: np.array([at["loss"]]))
    assert learn(tiny_messages(40, 0), tiny_messages(10, 40)).strength == least


@pytest.mark.parametrize("of", [lambda examples: examples, multilabel_of])
def test_learning_again_on_the_same_texts_gives_nearly_the_same_logits(
    of: Callable[[Examples], Examples], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_regression, "_TOLERANCE", 1e-5)
    train = of(tiny_messages(40, 0))
    first = learn(train, of(tiny_messages(10, 40)))
    assert first.strength is not None
    again = relearn(train, first.strength)
    assert again.strength == first.strength
    np.testing.assert_array_equal(again.majority, first.majority)
    np.testing.assert_allclose(again.logits(UNSEEN), first.logits(UNSEEN), atol=0.05)


@pytest.mark.parametrize("texts", [tiny_messages(40, 0), TRAIN_THREE, multilabel_of(tiny_messages(40, 0))])
def test_logits_out_of_fold_have_the_shape_of_logits_and_know_nothing_of_their_own_label(texts: Examples) -> None:
    fold = np.arange(len(texts)) % 4
    logits = out_of_fold(texts, 10.0, fold)
    assert logits.shape == (len(texts), len(texts.label_names))
    assert logits.dtype == np.float32
    labels = texts.labels.copy()
    labels[0], labels[4] = labels[1], labels[5]  # both of fold 0
    changed = Examples(texts.texts, labels, texts.label_names, texts.lines, "test")
    np.testing.assert_array_equal(out_of_fold(changed, 10.0, fold)[fold == 0], logits[fold == 0])


def test_logits_out_of_fold_tell_the_classes_apart() -> None:
    train = tiny_messages(60, 0)
    logits = out_of_fold(train, 10.0, np.arange(60) % 5)
    assert (logits.argmax(1) == train.labels).mean() > 0.9
    assert (out_of_fold(multilabel_of(train), 10.0, np.arange(60) % 5)[:, [0, 3]] == [-np.inf, np.inf]).all()


def test_texts_without_ngrams_have_equal_logits_out_of_fold() -> None:
    nothing = examples_of(["", " ", "\n", "\t"], [0, 1, 1, 1])
    np.testing.assert_array_equal(out_of_fold(nothing, 1.0, np.arange(4) % 2), np.zeros((4, 2)))


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1, 2, 1, 1], [0, 1, 0, 1, 1, 0, 0, 0]])
def test_images_are_learned_again_and_held_out(labels: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    made = (generator.normal(size=(8, 5)) + 3 * np.eye(3)[labels] @ generator.normal(size=(3, 5))).astype(np.float32)
    monkeypatch.setattr(image_features, "raw_features", lambda pictures: made[list(pictures)])
    images = replace(examples_of([str(i) for i in range(8)], labels, THREE), images=list(range(8)))
    learned = learn(images, images)
    assert isinstance(learned.features, ColoursAndEdges)
    assert learned.strength is not None
    again = relearn(images, learned.strength)
    np.testing.assert_array_equal(again.weight, learned.weight)
    assert Baselines.from_tensors(again.tensors()).strength == learned.strength
    logits = out_of_fold(images, learned.strength, np.arange(8) % 2)
    assert logits.shape == (8, 3)
    odd = np.arange(1, 8, 2)
    np.testing.assert_array_equal(logits[::2], relearn(images.take(odd), learned.strength).logits(list(range(0, 8, 2))))


@pytest.mark.parametrize(("name", "most"), [("_MOST_CHARACTERS", 900), ("_MOST_TARGETS", 60)])
def test_of_very_many_texts_some_are_learned_from_and_it_is_said(
    name: str, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train, held_out = tiny_messages(80, 0), tiny_messages(20, 80)
    whole = learn(train, held_out)
    monkeypatch.setattr(baselines, name, most)
    caplog.set_level("INFO")
    some = learn(train, held_out)
    (said,) = [record.getMessage() for record in caplog.records if "are learned from" in record.getMessage()]
    assert re.fullmatch(r"word and character n-grams are learned from \d\d of 80 texts, drawn at random", said)
    assert some.features.width < whole.features.width
    assert some.features.width == relearn(train, 10.0).features.width
    assert (some.predict_regression(held_out.texts) == held_out.labels).mean() > 0.8
