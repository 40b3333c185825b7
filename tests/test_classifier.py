"""The estimator keeps scikit-learn's contract."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import rehead
from rehead import Classifier, DataError, SettingError
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages

TEXTS, LABELS = messages(60)
UNSEEN, UNSEEN_LABELS = messages(20, start=60)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture
def classifier(base: str) -> Classifier:
    return Classifier(base, depth=2, pool="mean", tune="head")


@pytest.fixture(scope="module")
def fitted(base: str) -> Classifier:
    return Classifier(base, depth=2, pool="mean", tune="head").fit(TEXTS, LABELS)


def test_constructor_stores_its_arguments_under_their_names() -> None:
    given = {"base": "b", "tune": "last-2", "depth": 3, "pool": "mean", "max_length": 9, "epochs": 2}
    given |= {"batch_size": 4, "learning_rate": 0.5, "label_smoothing": 0.1, "class_weight": "balanced"}
    given |= {
        "preset": "best",
        "ngrams": False,
        "budget": 5.0,
        "random_state": 7,
        "long": "chunks",
        "views": 4,
        "average_views": True,
        "verbose": 1,
    }
    assert Classifier(**given).get_params() == given


def test_empty_text_is_left_out_of_a_fit_with_its_row(base: str) -> None:
    texts = [*TEXTS[:10], "", " \n", *TEXTS[10:]]
    fitted = Classifier(base, depth=1, pool="mean", tune="head").fit(texts, [*LABELS[:10], "ham", "spam", *LABELS[10:]])
    assert fitted.dropped_["no text"] == [11, 12]


def test_half_a_character_is_refused_with_its_row(fitted: Classifier) -> None:
    with pytest.raises(DataError, match="X row 2 holds half a surrogate pair"):
        fitted.predict(["a", "a \ud83d b"])


def test_set_params_changes_what_it_names_alone(classifier: Classifier) -> None:
    before = classifier.get_params()
    assert classifier.set_params(depth=1).get_params() == {**before, "depth": 1}


def test_clone_has_the_settings_and_nothing_learned(fitted: Classifier) -> None:
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(UNSEEN)


def test_fit_returns_the_estimator(classifier: Classifier) -> None:
    assert classifier.fit(TEXTS, LABELS) is classifier


def test_fit_leaves_the_settings_as_they_were(base: str) -> None:
    model = Classifier(base, tune="head")
    before = model.get_params()
    assert model.fit(TEXTS, LABELS).get_params() == before
    assert isinstance(model.depth_, int)
    assert model.pool_ in ("last", "mean", "both", "layers")


def test_learns_classes_that_the_words_separate(fitted: Classifier) -> None:
    assert fitted.score(UNSEEN, UNSEEN_LABELS) == 1.0


def test_probabilities_have_a_column_for_each_class_and_add_up_to_one(fitted: Classifier) -> None:
    probabilities = fitted.predict_proba(UNSEEN)
    assert probabilities.shape == (20, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-12)


def test_prediction_is_the_class_of_the_most_probable_column(fitted: Classifier) -> None:
    columns = fitted.predict_proba(UNSEEN).argmax(1)
    assert fitted.predict(UNSEEN).tolist() == [fitted.classes_[i] for i in columns]


@pytest.mark.parametrize(
    ("ham", "spam", "classes"),
    [
        ("ham", "spam", ["ham", "spam"]),
        (1, 0, [0, 1]),
        (2, 10, [2, 10]),
        (-1, 1, [-1, 1]),
        (False, True, [False, True]),
    ],
)
def test_classes_keep_type_and_order_of_the_labels(
    classifier: Classifier, ham: object, spam: object, classes: list[object]
) -> None:
    labels = [ham if label == "ham" else spam for label in LABELS]
    classifier.fit(TEXTS, labels)
    assert classifier.classes_.tolist() == classes
    assert classifier.classes_.dtype == np.asarray(labels).dtype
    assert classifier.predict(["free prize win", "lunch at noon"]).tolist() == [spam, ham]


@pytest.mark.parametrize("container", [tuple, np.array, pd.Series])
def test_texts_and_labels_come_in_any_sequence(classifier: Classifier, fitted: Classifier, container: type) -> None:
    classifier.fit(container(TEXTS), container(LABELS))
    assert (classifier.predict_proba(container(UNSEEN)) == fitted.predict_proba(UNSEEN)).all()


def test_works_in_cross_val_score(classifier: Classifier) -> None:
    assert cross_val_score(classifier, TEXTS, LABELS, cv=3).min() > 0.8


def test_works_in_a_grid_search_over_depth(classifier: Classifier) -> None:
    search = GridSearchCV(classifier, {"depth": [1, 3]}, cv=2).fit(TEXTS, LABELS)
    assert search.best_estimator_.depth_ == search.best_params_["depth"]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_works_at_the_end_of_a_pipeline(classifier: Classifier, fitted: Classifier) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, classifier).fit([text.upper() for text in TEXTS], LABELS)
    np.testing.assert_array_equal(pipeline.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_predicting_before_fitting_is_an_error(classifier: Classifier, method: str) -> None:
    with pytest.raises(NotFittedError):
        getattr(classifier, method)(UNSEEN)


def test_saving_before_fitting_is_an_error(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        classifier.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_x_that_is_one_text_is_an_error(classifier: Classifier) -> None:
    with pytest.raises(DataError, match="one text"):
        classifier.fit("free prize", ["spam"])


@pytest.mark.parametrize("intruder", [None, 3, 1.5, b"free prize", ["free"]])
def test_x_with_something_other_than_texts_is_an_error_that_names_the_row(
    classifier: Classifier, intruder: object
) -> None:
    with pytest.raises(DataError, match="row 3"):
        classifier.fit([*TEXTS[:2], intruder, *TEXTS[3:]], LABELS)


def test_predicting_something_other_than_texts_is_an_error(fitted: Classifier) -> None:
    with pytest.raises(DataError, match="row 2"):
        fitted.predict(["free prize", 7])


def test_x_and_y_of_different_lengths_are_an_error_that_names_both(classifier: Classifier) -> None:
    with pytest.raises(DataError, match=r"60.*59"):
        classifier.fit(TEXTS, LABELS[:-1])


def test_one_class_is_an_error(classifier: Classifier) -> None:
    with pytest.raises(DataError, match="two classes"):
        classifier.fit(TEXTS, ["spam"] * 60)


def test_no_texts_are_an_error(classifier: Classifier) -> None:
    with pytest.raises(DataError):
        classifier.fit([], [])


@pytest.mark.parametrize(
    "setting",
    [
        {"tune": "nonsense"},
        {"tune": "last-0"},
        {"depth": 0},
        {"depth": "deep"},
        {"pool": "max"},
        {"max_length": 0},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
    ],
    ids=str,
)
def test_settings_are_checked_when_fitting(classifier: Classifier, setting: dict[str, object]) -> None:
    with pytest.raises(SettingError):
        classifier.set_params(**setting).fit(TEXTS, LABELS)


@pytest.mark.parametrize("tune", ["head", "last-1"])
def test_the_same_seed_gives_the_same_classifier(classifier: Classifier, tune: str) -> None:
    classifier.set_params(tune=tune, epochs=2, random_state=3)
    first, second = (clone(classifier).fit(TEXTS, LABELS).predict_proba(UNSEEN) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_another_classifier(classifier: Classifier, fitted: Classifier) -> None:
    other = classifier.set_params(random_state=1).fit(TEXTS, LABELS)
    assert (other.predict_proba(UNSEEN) != fitted.predict_proba(UNSEEN)).any()


@pytest.mark.parametrize("tune", ["head", "last-1"])
def test_fit_leaves_the_global_random_states_alone(classifier: Classifier, tune: str) -> None:
    torch.manual_seed(11)
    np.random.seed(11)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    classifier.set_params(tune=tune, epochs=1).fit(TEXTS, LABELS)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


def test_fit_does_not_depend_on_the_global_random_state(classifier: Classifier, fitted: Classifier) -> None:
    torch.manual_seed(99)
    np.random.seed(99)
    np.testing.assert_array_equal(classifier.fit(TEXTS, LABELS).predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


def test_duplicates_are_dropped_and_reported_by_row(classifier: Classifier) -> None:
    texts = [*TEXTS, TEXTS[0], f"  {TEXTS[1].upper()} ", TEXTS[2]]
    labels = [*LABELS, LABELS[0], LABELS[1], "spam"]
    classifier.fit(texts, labels)
    assert classifier.dropped_ == {"duplicate": [61, 62], "duplicate with another label": [63]}


def test_nothing_is_reported_where_nothing_is_dropped(fitted: Classifier) -> None:
    assert fitted.dropped_ == {}


def test_duplicates_do_not_change_what_is_learned(classifier: Classifier, fitted: Classifier) -> None:
    classifier.fit([*TEXTS, *TEXTS], [*LABELS, *LABELS])
    np.testing.assert_array_equal(classifier.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


def test_a_fit_replaces_what_an_earlier_one_learned(classifier: Classifier, fitted: Classifier) -> None:
    classifier.fit(TEXTS, [label == "spam" for label in LABELS])
    classifier.fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == ["ham", "spam"]
    np.testing.assert_array_equal(classifier.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


def test_a_text_scores_the_same_alone_and_among_others(fitted: Classifier) -> None:
    texts = ["free", "meet you at noon for lunch at home later", "win cash now"]
    alone = np.concatenate([fitted.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(fitted.predict_proba(texts), alone, atol=1e-6)


def test_no_texts_have_no_predictions(fitted: Classifier) -> None:
    assert fitted.predict([]).shape == (0,)
    assert fitted.predict_proba([]).shape == (0, 2)


def test_an_empty_text_gets_a_prediction(fitted: Classifier) -> None:
    assert np.isfinite(fitted.predict_proba(["", "free prize"])).all()


@pytest.mark.parametrize("names", [{"ham": "ham", "spam": "spam"}, {"ham": 2, "spam": 10}], ids=["strings", "integers"])
def test_a_saved_classifier_predicts_the_same_labels(
    classifier: Classifier, tmp_path: Path, names: dict[str, object]
) -> None:
    classifier.fit(TEXTS, [names[label] for label in LABELS]).save(tmp_path / "model")
    loaded = rehead.load(tmp_path / "model")
    assert loaded.classes_.tolist() == classifier.classes_.tolist()
    assert loaded.predict(UNSEEN).tolist() == classifier.predict(UNSEEN).tolist()


def test_a_saved_classifier_has_the_same_learned_attributes(fitted: Classifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    loaded = Classifier.load(tmp_path / "model")
    for name in ("depth_", "pool_", "validation_log_loss_", "dropped_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_allclose(loaded.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN), atol=1e-6)


def test_a_loaded_classifier_can_be_saved_again(fitted: Classifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "first")
    Classifier.load(tmp_path / "first").save(tmp_path / "second")
    again = Classifier.load(tmp_path / "second").predict_proba(UNSEEN)
    np.testing.assert_allclose(again, fitted.predict_proba(UNSEEN), atol=1e-6)
