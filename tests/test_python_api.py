"""What a program calls: `rehead.fit` of a file or a table in memory, its result as people look at it, and exports."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyarrow
import pytest
from rich.console import Console

import rehead
from rehead import Classifier, DataError, SettingError
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_messages

TEXTS, LABELS = messages(60)
UNSEEN, UNSEEN_LABELS = messages(20, start=60)
FRAME = pd.DataFrame({"note": "x", "words": TEXTS, "team": LABELS})


@pytest.fixture(scope="module")
def result() -> rehead.FitResult:
    return rehead.fit(FRAME, Classifier("tfidf"), text_column="words", label_column="team")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    base = str(save_tiny_model(tmp_path_factory.mktemp("bert"), "bert"))
    return Classifier(base, tune="last-1", epochs=2, depth=2, pool="cls").fit(TEXTS, LABELS)


def polars() -> Any:
    return pytest.importorskip("polars")


def datasets() -> Any:
    return pytest.importorskip("datasets")


def test_data_frame_is_learned_from_as_a_file_is(result: rehead.FitResult, tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "train.csv", index=False)
    of_file = rehead.fit(tmp_path / "train.csv", Classifier("tfidf"), text_column="words", label_column="team")
    assert result.data == "DataFrame"
    np.testing.assert_array_equal(result.model.predict_proba(UNSEEN), of_file.model.predict_proba(UNSEEN))
    assert result.to_json()["test"] == of_file.to_json()["test"]


@pytest.mark.parametrize(
    "table",
    [
        lambda: pyarrow.Table.from_pandas(FRAME),
        lambda: polars().DataFrame(FRAME.to_dict("list")),
        lambda: datasets().Dataset.from_pandas(FRAME),
    ],
    ids=["arrow", "polars", "datasets"],
)
def test_other_tables_are_learned_from_likewise(result: rehead.FitResult, table: Any) -> None:
    other = rehead.fit(table(), Classifier("tfidf"), text_column="words", label_column="team")
    np.testing.assert_array_equal(result.model.predict_proba(UNSEEN), other.model.predict_proba(UNSEEN))


def test_class_ids_of_a_data_set_become_their_names() -> None:
    features = datasets().Features(
        {"text": datasets().Value("string"), "label": datasets().ClassLabel(names=["ham", "spam"])}
    )
    columns = {"text": TEXTS, "label": [int(label == "spam") for label in LABELS]}
    learned = rehead.fit(datasets().Dataset.from_dict(columns, features=features), Classifier("tfidf"))
    assert learned.settings.labels == ["ham", "spam"]


def test_parts_by_name_are_the_parts_of_the_fit() -> None:
    test = pd.DataFrame({"words": UNSEEN, "team": UNSEEN_LABELS})
    parts = {"train": FRAME[["words", "team"]], "test": test}
    learned = rehead.fit(parts, Classifier("tfidf"), label_column="team")
    assert (learned.rows.read, learned.rows.test) == (80, 20)
    same = rehead.fit(parts["train"], Classifier("tfidf"), test=test, label_column="team")
    assert same.to_json()["test"] == learned.to_json()["test"]
    with pytest.raises(DataError, match="none of the parts old, new is for training"):
        rehead.fit({"old": FRAME, "new": FRAME})


@pytest.mark.parametrize("data", [3, None, [["a", "b"]], np.ones((3, 2))])
def test_what_is_no_table_is_refused(data: Any) -> None:
    with pytest.raises(DataError, match=r"is no table; give a file, sample:NAME, a DataFrame or a Dataset"):
        rehead.fit(data)


def test_result_shows_itself_in_a_line_a_table_and_a_page(result: rehead.FitResult) -> None:
    assert repr(result).startswith("FitResult(tfidf: 100.00% accuracy (")
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(result)
    assert "majority class" in console.export_text()
    page = result._repr_html_()
    assert page.startswith('<iframe srcdoc="&lt;!doctype html')
    assert page.count("&lt;svg") >= 2


def test_report_is_the_one_that_is_saved(tmp_path: Path) -> None:
    learned = rehead.fit(FRAME, Classifier("tfidf"), tmp_path / "model", text_column="words", label_column="team")
    assert learned.report_file == str(tmp_path / "model" / "report.html")
    page = learned.report(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page
    assert "<svg" in page
    measured = rehead.evaluate(tmp_path / "model", FRAME, text_column="words", label_column="team")
    assert repr(measured).startswith("EvaluateResult(tfidf: 100.00% accuracy")
    assert json.loads(json.dumps(measured.to_json())).keys() >= {"test", "rows"}


def test_classifier_measures_itself_as_the_workflow_does(fitted: Classifier, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    theirs = rehead.evaluate(tmp_path / "model", write_messages(tmp_path / "test.csv", 20, start=60))
    ours = fitted.evaluate(UNSEEN, UNSEEN_LABELS)
    assert ours.test.accuracy == theirs.evaluation.test.accuracy
    assert ours.baselines == theirs.evaluation.baselines
    assert fitted.evaluate(TEXTS, LABELS).overlap.n == 60
    with pytest.raises(DataError, match="'eggs', which is not among the classes learned"):
        fitted.evaluate(UNSEEN, ["eggs"] * 20)


def test_measures_count_examples_by_their_weight(fitted: Classifier) -> None:
    wrong = ["spam" if label == "ham" else "ham" for label in UNSEEN_LABELS[:5]]
    labels = [*wrong, *UNSEEN_LABELS[5:]]
    weights = np.array([3.0] * 5 + [1.0] * 15)
    weighted, repeated = (
        fitted.evaluate(UNSEEN, labels, weights),
        fitted.evaluate([*UNSEEN, *UNSEEN[:5], *UNSEEN[:5]], [*labels, *wrong, *wrong]),
    )
    for name in ("accuracy", "macro_f1", "weighted_f1", "roc_auc", "pr_auc", "log_loss", "brier", "ece", "mcc"):
        assert getattr(weighted.test, name) == pytest.approx(getattr(repeated.test, name)), name
    assert weighted.test.accuracy == pytest.approx(fitted.score(UNSEEN, labels, weights))
    for name in weighted.baselines:
        assert weighted.baselines[name].accuracy == pytest.approx(repeated.baselines[name].accuracy)
        assert weighted.baselines[name].macro_f1 == pytest.approx(repeated.baselines[name].macro_f1)


def test_classifier_explains_a_text_by_its_words(fitted: Classifier) -> None:
    explained = fitted.explain("free lunch now")
    assert [piece.text for piece in explained.pieces] == ["free", "lunch", "now"]
    assert explained.label == fitted.predict(["free lunch now"])[0]


def test_history_says_what_was_tried(fitted: Classifier) -> None:
    assert [tried.tune for tried in fitted.history_] == ["head", "last-1"]
    assert len(fitted.history_[1].history.validation_losses) >= 2
    assert all(tried.loss > 0 and tried.seconds > 0 for tried in fitted.history_)


def test_the_estimator_imports_no_transformers() -> None:
    code = "import sys; from rehead import Classifier; print(sorted({'transformers', 'peft'} & sys.modules.keys()))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_every_public_name_is_there_and_importing_them_costs_nothing() -> None:
    assert all(getattr(rehead, name) is not None for name in rehead.__all__)
    assert {"FitResult", "EvaluateResult", "Evaluation", "DataConfig", "DecisionConfig"} <= set(rehead.__all__)
    heavy = "import sys, rehead; print(sorted({'torch', 'numpy', 'sklearn', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_package_says_that_it_has_types() -> None:
    assert (Path(rehead.__file__).parent / "py.typed").is_file()


def test_results_draw_figures_as_scikit_learn_does() -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot

    texts, labels = messages(120)
    result = rehead.fit(pd.DataFrame({"text": texts, "label": labels}), Classifier("tfidf"))
    n = result.evaluation.test.n
    _, axes = pyplot.subplots(1, 3)
    assert result.plot_confusion_matrix(axes[0]).confusion_matrix.sum() == n
    assert result.plot_calibration(axes[1]).prob_true[-1] == 1.0
    assert result.plot_roc_curve("spam", axes[2]).roc_auc == 1.0
    assert [len(ax.get_xlabel()) > 0 for ax in axes] == [True] * 3
    with pytest.raises(SettingError, match="one of ham, spam"):
        result.plot_roc_curve("eggs")
    pyplot.close("all")
