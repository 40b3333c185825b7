"""scikit-learn's own checks hold, on numbers written as texts and on texts, and what is built on estimators works."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import AdaBoostClassifier, BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multiclass import OneVsOneClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import Tags, estimator_checks, get_tags
from sklearn.utils.validation import validate_data

import rehead
from rehead import Classifier, DataError, SettingError
from tests.tiny_models import WORDS, save_tiny_model
from tests.tiny_texts import messages

TEXTS, LABELS = messages(60)
UNSEEN, UNSEEN_LABELS = messages(20, start=60)

# What scikit-learn expects of every classifier and rehead does not do.
_OF_ALL = {
    "check_sample_weight_equivalence_on_dense_data": "a repeated text is used once, so a weight of 2 is not two rows",
    "check_array_api_input": "skipped by scikit-learn unless SCIPY_ARRAY_API is set; texts are in no array of numbers",
}
_OF_NGRAMS = {
    "check_sample_weights_shape": "four different rows of sixteen are left, too few to have an n-gram in common",
    "check_class_weight_classifiers": "base tfidf refuses class_weight",
}
_LABELS_OF_X = "the check makes labels of the numbers in X"
_NUMBERS = "the check computes with the numbers in X, or compares with a message about numbers"
_OWN_NUMBERS = "the check makes an X of numbers where it cannot be written as texts"
_OF_TEXTS = {
    **dict.fromkeys(
        [
            "check_dont_overwrite_parameters",
            "check_f_contiguous_array_estimator",
            "check_methods_sample_order_invariance",
            "check_methods_subset_invariance",
            "check_fit2d_1sample",
            "check_fit2d_1feature",
            "check_dict_unchanged",
            "check_fit2d_predict1d",
        ],
        _LABELS_OF_X,
    ),
    **dict.fromkeys(
        [
            "check_positive_only_tag_during_fit",
            "check_estimators_dtypes",
            "check_complex_data",
            "check_estimators_nan_inf",
            "check_estimator_sparse_tag",
            "check_estimator_sparse_array",
            "check_estimator_sparse_matrix",
            "check_estimators_empty_data_messages",
        ],
        _NUMBERS,
    ),
    **dict.fromkeys(
        [
            "check_sample_weights_shape",
            "check_sample_weights_not_overwritten",
            "check_decision_proba_consistency",
            "check_classifiers_one_label_sample_weights",
        ],
        _OWN_NUMBERS,
    ),
    **dict.fromkeys(
        ["check_classifiers_train", "check_transformer_data_not_an_array"],
        "rows that are lists of one text are refused, with the row's number",
    ),
}


class OfNumbers(Classifier):
    """A classifier of rows of numbers, each of which is written as a text."""

    def _read(self, X: Any, *, reset: bool = False) -> Any:
        return super()._read(written(validate_data(self, X, reset=reset)))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        return tags


def written(rows: Any) -> list[str]:
    """Write a word for each cell, the same for values near each other; and then the numbers, so that rows differ."""
    texts = []
    for row in np.asarray(rows).tolist():
        words = [WORDS[(7 * column + round(value)) % len(WORDS)] for column, value in enumerate(row)]
        texts.append(" ".join([*words, *map(repr, row)]))
    return texts


def as_column(_: object, X: Any, X_test: Any = None, kernel: object = None) -> Any:
    """Write the rows of a check as a column of texts; stands in for what makes an estimator's kind of X."""
    columns = [np.array(written(part), dtype=object)[:, None] for part in (X, X_test) if part is not None]
    return columns[0] if X_test is None else tuple(columns)


def checks(expected: dict[str, str]) -> list[Any]:
    """Return scikit-learn's checks; those that are expected to fail with the reason, strictly."""
    params = []
    for number, (_, check) in enumerate(estimator_checks.estimator_checks_generator(OfNumbers())):
        name = estimator_checks._check_name(check)
        marks = [pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else []
        if name == "check_array_api_input":
            marks = [pytest.mark.skip(reason=expected[name])]
        params.append(pytest.param(check, id=f"{number}-{name.removeprefix('check_')}", marks=marks))
    return params


@pytest.fixture(scope="module")
def base(bases: Callable[[str], str]) -> str:
    return bases("llama")


@pytest.fixture
def tiny(base: str) -> Classifier:
    return Classifier(base, depth=1, pool="mean", tune="head")


@pytest.fixture(scope="module")
def fitted(base: str) -> Classifier:
    return Classifier(base, depth=1, pool="mean", tune="head").fit(TEXTS, LABELS)


Check = Callable[[Classifier], None]


@pytest.mark.parametrize("check", checks({**_OF_ALL, **_OF_NGRAMS}))
def test_n_grams_of_numbers_pass_the_checks(check: Check) -> None:
    check(OfNumbers("tfidf"))


@pytest.mark.slow
@pytest.mark.parametrize("check", checks(_OF_ALL))
def test_network_on_numbers_passes_the_checks(check: Check, base: str) -> None:
    check(OfNumbers(base, depth=2, pool="mean", tune="head"))


@pytest.mark.parametrize("check", checks({**_OF_ALL, **_OF_NGRAMS, **_OF_TEXTS}))
def test_column_of_texts_passes_the_checks(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", as_column)
    check(Classifier("tfidf"))


def test_tags_say_that_texts_are_taken_and_classes_given() -> None:
    tags = get_tags(Classifier())
    assert (tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array) == (True, True, False)
    assert (tags.estimator_type, tags.target_tags.required, tags.classifier_tags.multi_label) == (
        "classifier",
        True,
        True,
    )


def polars_frame() -> Any:
    return pytest.importorskip("polars").DataFrame({"text": UNSEEN})


def polars_series() -> Any:
    return polars_frame()["text"]


def hub_data_set() -> Any:
    return pytest.importorskip("datasets").Dataset.from_dict({"text": UNSEEN, "label": UNSEEN_LABELS})


@pytest.mark.parametrize(
    "container",
    [
        lambda: pd.DataFrame({"text": UNSEEN}),
        lambda: pd.Series(UNSEEN, dtype="string"),
        lambda: pd.Series(UNSEEN, dtype="category"),
        lambda: pd.Series(UNSEEN, dtype="string[pyarrow]"),
        lambda: np.array(UNSEEN)[:, None],
        lambda: np.array(UNSEEN, dtype=object)[:, None],
        lambda: pyarrow.array(UNSEEN),
        lambda: pyarrow.chunked_array([UNSEEN[:5], UNSEEN[5:]]),
        lambda: pyarrow.table({"text": UNSEEN}),
        polars_frame,
        polars_series,
        lambda: hub_data_set()["text"],
        lambda: hub_data_set().select_columns(["text"]),
    ],
    ids=[
        *("data frame", "string series", "category series", "arrow series", "column of str", "column of objects"),
        *("arrow array", "arrow chunks", "arrow table", "polars frame", "polars series", "datasets column", "Dataset"),
    ],
)
def test_texts_come_in_any_container(fitted: Classifier, container: Callable[[], Any]) -> None:
    np.testing.assert_array_equal(fitted.predict_proba(container()), fitted.predict_proba(UNSEEN))


@pytest.mark.parametrize("labels", [pyarrow.array(LABELS), pd.Categorical(LABELS), pd.DataFrame({"y": LABELS})])
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_labels_come_in_any_container(tiny: Classifier, fitted: Classifier, labels: Any) -> None:
    tiny.fit(pyarrow.array(TEXTS), labels)
    np.testing.assert_array_equal(tiny.predict_proba(UNSEEN), fitted.predict_proba(UNSEEN))


@pytest.mark.parametrize("X", [pd.DataFrame({"a": TEXTS, "b": TEXTS}), np.array([TEXTS, TEXTS]).T, np.array("free")])
def test_several_columns_or_none_are_refused_with_their_shape(tiny: Classifier, X: Any) -> None:
    with pytest.raises(DataError, match=r"X has the shape \((60, 2)?\); give one column of texts"):
        tiny.fit(X, LABELS)


def test_column_of_a_table_is_remembered_and_checked(tiny: Classifier) -> None:
    tiny.fit(pd.DataFrame({"text": TEXTS}), LABELS)
    assert (tiny.n_features_in_, tiny.feature_names_in_.tolist()) == (1, ["text"])
    with pytest.raises(ValueError, match="feature names should match"):
        tiny.predict(pd.DataFrame({"title": UNSEEN}))
    assert tiny.score(UNSEEN, UNSEEN_LABELS) == 1.0  # a list has no names to compare


def test_list_has_no_features(fitted: Classifier) -> None:
    assert not hasattr(fitted, "n_features_in_")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_log_odds_and_log_probabilities_agree_with_probabilities(tiny: Classifier, n_classes: int) -> None:
    labels = [str(number % n_classes) if n_classes > 2 else label for number, label in enumerate(LABELS)]
    p, odds = tiny.fit(TEXTS, labels).predict_proba(UNSEEN), tiny.decision_function(UNSEEN)
    assert odds.shape == ((20,) if n_classes == 2 else (20, 3))
    of_each = p[:, 1] if n_classes == 2 else p
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), of_each, rtol=1e-6)
    np.testing.assert_array_equal(tiny.predict_log_proba(UNSEEN), np.log(p))


def test_each_of_several_labels_has_log_odds_of_its_own(tiny: Classifier) -> None:
    labels = np.array([[label == "spam", "free" in text] for text, label in zip(TEXTS, LABELS, strict=True)]).astype(
        int
    )
    tiny.fit(TEXTS, labels)
    np.testing.assert_array_equal(tiny.decision_function(UNSEEN) >= 0, tiny.predict(UNSEEN) == 1)


def test_embeddings_are_what_the_head_sees(fitted: Classifier) -> None:
    features, head = fitted.transform(UNSEEN), fitted.artifact_.head
    assert (features.shape, features.dtype) == ((20, 32), np.float32)
    weight, bias = head.linear.weight.detach().numpy(), head.linear.bias.detach().numpy()
    logits = features @ weight.T + bias
    if not fitted.artifact_.manifest.baseline_factor:
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], fitted.decision_function(UNSEEN), atol=1e-3)
    assert fitted.transform([]).shape == (0, 32)
    assert fitted.get_feature_names_out().tolist() == [f"classifier{i}" for i in range(32)]


def test_embeddings_become_a_data_frame_where_that_is_asked_for(tiny: Classifier) -> None:
    frame = pd.DataFrame({"text": TEXTS}, index=range(100, 160))
    embedded = tiny.set_output(transform="pandas").fit(frame, LABELS).transform(frame)
    assert (embedded.columns[0], embedded.index.tolist()) == ("classifier0", frame.index.tolist())


def test_column_transformer_puts_embeddings_beside_numbers(tiny: Classifier) -> None:
    table = pd.DataFrame({"text": TEXTS, "letters": list(map(len, TEXTS))})
    both = ColumnTransformer([("embedded", tiny, ["text"]), ("scaled", StandardScaler(), ["letters"])])
    pipeline = make_pipeline(both, LogisticRegression()).fit(table, LABELS)
    assert pipeline.score(pd.DataFrame({"text": UNSEEN, "letters": list(map(len, UNSEEN))}), UNSEEN_LABELS) == 1.0
    assert pipeline[0].get_feature_names_out()[-1] == "scaled__letters"


def test_partial_fit_is_refused_with_the_cure(tiny: Classifier) -> None:
    assert not hasattr(tiny, "partial_fit")
    with pytest.raises(AttributeError, match="give `fit` the old and the new examples together"):
        _ = tiny.partial_fit


def test_random_state_draws_another_seed_for_each_fit(tiny: Classifier) -> None:
    tiny.set_params(random_state=np.random.RandomState(5))
    seeds = [tiny.fit(TEXTS, LABELS).artifact_.manifest.seed for _ in range(2)]
    again = clone(tiny).set_params(random_state=np.random.RandomState(5)).fit(TEXTS, LABELS)
    assert seeds[0] != seeds[1]
    assert again.artifact_.manifest.seed == seeds[0]
    assert isinstance(tiny.set_params(random_state=None).fit(TEXTS, LABELS).artifact_.manifest.seed, int)


def test_weights_by_class_come_back_after_saving(tiny: Classifier, tmp_path: Path) -> None:
    numbers = [int(label == "spam") for label in LABELS]
    tiny.set_params(class_weight={0: 1.0, 1: 50.0}).fit(TEXTS, numbers).save(tmp_path / "model")
    loaded = rehead.load(tmp_path / "model")
    assert loaded.class_weight == {0: 1.0, 1: 50.0}
    np.testing.assert_array_equal(loaded.predict(UNSEEN), tiny.predict(UNSEEN))


@pytest.mark.parametrize("weights", [{"spam": -1}, {"spam": "much"}, "odd", {"eggs": 2.0}])
def test_weights_by_class_that_make_no_sense_are_refused(tiny: Classifier, weights: Any) -> None:
    with pytest.raises(SettingError, match="class_weight"):
        tiny.set_params(class_weight=weights).fit(TEXTS, LABELS)


def contradicted() -> tuple[list[str], list[str], np.ndarray]:
    """Return texts of which a third have the other label than their words say, and weights that hardly count those."""
    texts, labels = messages(90)
    wrong = np.arange(90) % 3 == 0
    turned = {"ham": "spam", "spam": "ham"}
    said = [turned[label] if is_wrong else label for label, is_wrong in zip(labels, wrong, strict=True)]
    return texts, said, np.where(wrong, 1e-3, 1.0)


@pytest.mark.parametrize("settings", [{"tune": "head"}, {"tune": "last-1", "epochs": 4}, {"base": "tfidf"}], ids=str)
def test_examples_that_hardly_count_are_hardly_learned_from(base: str, settings: dict[str, Any]) -> None:
    texts, labels, weights = contradicted()
    network = {} if settings.get("base") == "tfidf" else {"base": base, "depth": 2, "pool": "mean", "ngrams": False}
    plain, weighted = (Classifier(**network | settings).fit(texts, labels, given) for given in (None, weights))
    assert weighted.score(UNSEEN, UNSEEN_LABELS) == 1.0
    truth = [weighted.classes_.tolist().index(label) for label in UNSEEN_LABELS]
    sure, unsure = (np.log(model.predict_proba(UNSEEN)[range(20), truth]).mean() for model in (weighted, plain))
    assert sure > unsure + 0.2


def test_an_example_of_weight_0_is_as_if_it_were_not_there(tiny: Classifier) -> None:
    texts, labels, weights = contradicted()
    counts = weights > 0.5
    without = [row for row in range(90) if counts[row]]
    tiny.fit(texts, labels, counts)
    left_out = clone(tiny).fit([texts[row] for row in without], [labels[row] for row in without])
    np.testing.assert_allclose(tiny.predict_proba(UNSEEN), left_out.predict_proba(UNSEEN), atol=1e-6)
    assert len(tiny.dropped_["weight 0"]) == 30


@pytest.mark.parametrize("weights", [np.ones(59), -np.ones(60), np.full(60, np.nan), np.zeros(60)])
def test_weights_that_make_no_sense_are_refused(tiny: Classifier, weights: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"[Ww]eight"):
        tiny.fit(TEXTS, LABELS, sample_weight=weights)


def test_metadata_routing_takes_weights_through_a_search(tiny: Classifier) -> None:
    texts, labels, weights = contradicted()
    with config_context(enable_metadata_routing=True):
        asked = tiny.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        weighted = cross_validate(asked, texts, labels, params={"sample_weight": weights}, cv=3)["test_score"]
    assert weighted.min() > 0.9  # the rows that hardly count are those that are wrong


def test_grid_search_chooses_among_bases(base: str, tmp_path: Path) -> None:
    other = str(save_tiny_model(tmp_path, "bert"))
    search = GridSearchCV(Classifier(tune="head", depth=1, pool="mean"), {"base": [base, other]}, cv=2)
    assert search.fit(np.array(TEXTS), LABELS).best_params_["base"] in (base, other)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def by_row(classifier: Classifier) -> Pipeline:
    """Return the classifier behind a look-up of texts by their number, for what insists on an X of numbers."""
    return make_pipeline(FunctionTransformer(lambda rows: [(TEXTS + UNSEEN)[row] for row in rows[:, 0]]), classifier)


ROWS, UNSEEN_ROWS = np.arange(60)[:, None], np.arange(60, 80)[:, None]


@pytest.mark.parametrize(
    "ensemble",
    [
        lambda one: BaggingClassifier(one, n_estimators=3, random_state=0),
        lambda one: AdaBoostClassifier(one, n_estimators=3, random_state=0),
        lambda one: StackingClassifier([("tiny", one), ("words", Classifier("tfidf"))], cv=2),
        lambda one: VotingClassifier([("tiny", one), ("words", Classifier("tfidf"))], voting="soft"),
    ],
    ids=["bagging", "boosting", "stacking", "voting"],
)
def test_works_in_an_ensemble(tiny: Classifier, ensemble: Callable[[Classifier], Any]) -> None:
    model = ensemble(tiny).fit(np.array(TEXTS)[:, None], LABELS)
    assert model.score(np.array(UNSEEN)[:, None], UNSEEN_LABELS) > 0.9


def test_self_training_learns_from_texts_without_labels(tiny: Classifier) -> None:
    labels = np.array([int(label == "spam") for label in LABELS])
    labels[::3] = -1
    model = SelfTrainingClassifier(by_row(tiny)).fit(ROWS, labels)
    assert (model.transduction_ != -1).sum() > 40
    assert model.score(UNSEEN_ROWS, [int(label == "spam") for label in UNSEEN_LABELS]) > 0.9


def test_one_against_one_knows_every_pair(tiny: Classifier) -> None:
    labels = np.array([f"{label} {number % 4 == 1}" for number, label in enumerate(LABELS)])
    model = OneVsOneClassifier(by_row(tiny)).fit(ROWS, labels)
    assert len(model.estimators_) == 3
    assert set(model.predict(UNSEEN_ROWS)) <= set(labels)
