"""The HTML report shows what was measured, and nothing that a text smuggles in."""

import base64
import csv
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rehead.classifier import Classifier
from rehead.data.examples import Examples
from rehead.data.preparation import DataConfig
from rehead.evaluation.evaluation import Overlap
from rehead.evaluation.report import Figures, Mistake, figures, mistakes, render_html, write
from rehead.runtime.errors import ArtifactError
from rehead.workflows.evaluate import evaluate
from rehead.workflows.fit import fit
from rehead.workflows.results import FitResult, TriedStrategy
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv

SCRIPT = "<script>alert('spam & co')</script>"
NAMES = {"spam": SCRIPT, "ham": 'ham | "eggs": {{ 7 * 7 }}'}
SCALE = {name: [0.5] for name in ("threshold", "precision", "recall", "predicted")}
DRAWN = Figures(
    reliability="<svg></svg>",
    curves="<svg></svg>",
    depth_profile=None,
    training_curve=None,
    learning_curve=None,
    thresholds={f"{SCRIPT} \"'": SCALE},
    predictions=None,
)
MISTAKE = Mistake(line=17, text=f"win {SCRIPT} now", label=SCRIPT, predicted=NAMES["ham"], probability=0.9876)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    texts, labels = messages(60)
    rows = [(text, NAMES[label]) for text, label in zip(texts, labels, strict=True)]
    return write_csv(folder / "messages <1>.csv", ["text", "label"], [*rows, rows[0], ("", SCRIPT)])


@pytest.fixture(scope="module")
def base(folder: Path) -> str:
    return str(save_tiny_model(folder / "base", "llama"))


@pytest.fixture(scope="module")
def result(folder: Path, data: Path, base: str) -> FitResult:
    """Of a real fit whose labels and file name are hostile."""
    return fit(DataConfig(str(data)), Classifier(base), folder / "model")


def with_settings(result: FitResult, **changes: Any) -> FitResult:
    return replace(result, settings=replace(result.settings, **changes))


class Elements(HTMLParser):
    """Collects the tags that a browser would see, and the addresses that it would ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_report_shows_the_headline_number(result: FitResult) -> None:
    accuracy = f"{100 * result.evaluation.test.accuracy:.2f} %"
    assert f'<p class="headline">{accuracy}</p>' in render_html(result, [], DRAWN)


def test_report_shows_the_headline_number_of_this_result_and_no_other(result: FitResult) -> None:
    test = replace(result.evaluation.test, accuracy=0.12345)
    other = replace(result, evaluation=replace(result.evaluation, test=test))
    assert '<p class="headline">12.35 %</p>' in render_html(other, [], DRAWN)


def test_report_escapes_markup_in_texts_labels_and_file_names(result: FitResult) -> None:
    page = render_html(result, [MISTAKE], DRAWN)
    assert Elements(page).tags.count("script") == 1  # the report's own
    assert "&lt;script&gt;alert" in page
    assert "{{ 7 * 7 }}" in page


def test_report_needs_nothing_from_outside(result: FitResult) -> None:
    page = render_html(result, [MISTAKE], DRAWN)
    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"@import|url\(|//\w", page)
    assert all(address.startswith("#section-") for address in Elements(page).addresses)


def test_report_runs_its_own_script_and_no_other(result: FitResult) -> None:
    page = render_html(result, [MISTAKE], DRAWN)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        f"script-src 'sha256-{digest}'",
    ]


def test_contents_of_the_report_lead_to_its_sections(result: FitResult) -> None:
    page = render_html(result, [MISTAKE], DRAWN)
    linked = dict(re.findall(r'<a href="#(section-\d+)">([^<]*)</a>', page))
    there = dict(re.findall(r'<section id="(section-\d+)"[^>]*>\s*<h2>([^<]*)</h2>', page))
    assert linked == there
    assert {"Metrics", "Calibration", "Per class", "Most confident mistakes", "Provenance"} <= set(there.values())


def test_predictions_of_the_test_can_be_had_from_the_page_and_are_no_formulas() -> None:
    names = ("=1+1", "spam")
    test = Examples(["a", "b"], np.array([1, 1]), names, np.array([7, 9]), "test")
    drawn = figures(np.array([[0.75, 0.25], [0.2, 0.8]]), test, {}, depth=None)
    assert drawn.predictions is not None
    kind, content = drawn.predictions.split(",")
    assert kind == "data:text/csv;base64"
    rows = list(csv.reader(base64.b64decode(content).decode().splitlines()))
    assert rows == [
        ["row", "true", "predicted", "probability"],
        ["7", "spam", "'=1+1", "0.75"],
        ["9", "spam", "spam", "0.8"],
    ]


def test_report_lists_the_mistakes_given(result: FitResult) -> None:
    page = render_html(result, [MISTAKE], DRAWN)
    assert '<td class="number" data-title="row">17</td>' in page
    assert "0.9876" in page


def test_report_says_which_rows_were_not_used(result: FitResult) -> None:
    page = render_html(result, [], DRAWN)
    assert re.search(r"1: duplicate \(rows 62\)", page)
    assert re.search(r"1: no text \(rows 63\)", page)


def test_report_warns_of_test_texts_that_were_trained_on(result: FitResult) -> None:
    evaluation = result.evaluation
    assert evaluation.comparison is not None
    overlap = Overlap(
        n=3,
        near=2,
        test_without=replace(evaluation.test, accuracy=0.4321),
        baselines_without=evaluation.baselines,
        comparison_without=replace(evaluation.comparison, verdict="worse than the baseline"),
    )
    page = render_html(replace(result, evaluation=replace(evaluation, overlap=overlap)), [], DRAWN)
    assert "5 of the 12 test texts are also in the training data, 2 of them with small changes" in page
    assert "Without the overlap: worse than the baseline." in page
    assert "43.21 %" in page


def test_report_shows_verdict_findings_and_split(result: FitResult) -> None:
    page = render_html(result, [], DRAWN)
    assert result.evaluation.comparison is not None
    assert result.evaluation.comparison.verdict[1:] in page
    assert result.split in page
    (duplicates,) = [finding for finding in result.findings if finding.kind == "duplicates"]
    assert f"<strong>note</strong>: {duplicates.title}<" in page


def test_depths_at_which_a_pooling_was_not_measured_stay_empty(result: FitResult) -> None:
    profile = {"mean": {1: 0.5123, 2: 0.4123}, "layers": {2: 0.3123}}
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    test = Examples(["a", "b"], np.array([0, 1]), ("ham", "spam"), np.arange(2), "test")
    settings, training = replace(result.settings, depth=2, pool="layers"), replace(result.training, profile=profile)
    drawn = figures(probabilities, test, profile, depth=2)
    page = render_html(replace(result, settings=settings, training=training), [], drawn)
    assert '<td class="number">0.5123</td><td class="number"></td>' in page
    assert "<strong>0.3123</strong>" in page


def test_report_draws_what_was_measured(result: FitResult) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    test = Examples(["a", "b", "c"], np.array([0, 1, 0]), ("ham", "spam"), np.arange(3), "test")
    drawn = figures(probabilities, test, {"last": {1: 0.5, 2: 0.4}}, depth=2, epochs={"last-1": [0.6, 0.5, 0.4]})
    page = render_html(result, [], drawn)
    assert page.count("<svg") == 5  # calibration, two kinds of curves, depth, training
    assert "0.8" in page


def test_full_report_has_suspects_a_curve_and_explained_mistakes(base: str, tmp_path: Path) -> None:
    texts, labels = messages(400)
    swap = {"ham": "spam", "spam": "ham"}
    rows = [
        (text, swap[label] if i % 20 == 5 else label) for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    data = write_csv(tmp_path / "noisy.csv", ["text", "label"], rows)
    model = Classifier(base, tune="head", depth=1, pool="mean")
    result = fit(str(data), model, tmp_path / "model", full_report=True)
    assert result.report_file is not None
    assert result.label_study is not None
    assert result.rows.train is not None
    page = Path(result.report_file).read_text()
    assert result.label_study.errors.examined == result.rows.train + (result.rows.validation or 0)
    assert "Learning curve" in page
    assert "Labels that may be wrong" in page
    assert re.search(r'<span style="background: rgba\((46, 160, 67|248, 81, 73), 0\.\d\d\)[^"]*">\w+</span>', page)


def test_report_of_a_fit_is_in_the_saved_folder(result: FitResult) -> None:
    assert result.report_file is not None
    assert result.folder is not None
    page = Path(result.report_file).read_text()
    assert Path(result.report_file).parent == Path(result.folder)
    assert f"{100 * result.evaluation.test.accuracy:.2f} %" in page


def test_evaluation_of_a_saved_classifier_writes_a_report(result: FitResult, data: Path, tmp_path: Path) -> None:
    assert result.folder is not None
    evaluated = evaluate(result.folder, str(data), tmp_path / "again.html")
    page = (tmp_path / "again.html").read_text()
    assert f'<p class="headline">{100 * evaluated.evaluation.test.accuracy:.2f} %</p>' in page
    assert Elements(page).tags.count("script") == 1  # the report's own


def test_a_report_that_cannot_be_written_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere/report\.html"):
        write(tmp_path / "nowhere" / "report.html", b"page")


def test_mistakes_are_the_wrong_ones_and_the_most_confident_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    labels = np.array([1, 1, 0, 0])
    test = Examples(["a", "b", "c", "d"], labels, ("ham", "spam"), np.array([5, 6, 7, 8]), "test")
    assert mistakes(probabilities, test) == [
        Mistake(7, "c", "ham", "spam", 0.8),
        Mistake(8, "d", "ham", "spam", 0.7),
        Mistake(5, "a", "spam", "ham", 0.6),
    ]


def test_no_more_than_twenty_mistakes_are_shown() -> None:
    labels = np.ones(30, dtype=np.int64)
    test = Examples([str(i) for i in range(30)], labels, ("ham", "spam"), np.arange(30), "test")
    assert len(mistakes(np.tile([0.9, 0.1], (30, 1)), test)) == 20


def test_report_says_that_ngrams_stand_beside_the_head(result: FitResult) -> None:
    page = render_html(with_settings(result, pool="last", baseline_factor=0.412), [], DRAWN)
    assert "Word and character n-grams stand beside the head (factor 0.41)" in page
    assert "rehead fit --no-ngrams" in page


def test_report_of_images_says_what_stands_beside_the_head(result: FitResult) -> None:
    of_texts = result.evaluation.baselines
    assert of_texts is not None
    baselines = {"hog": of_texts["tfidf"], "majority": of_texts["majority"]}
    evaluation = replace(result.evaluation, what="images", baselines=baselines)
    page = render_html(with_settings(replace(result, evaluation=evaluation), baseline_factor=0.5), [], DRAWN)
    assert "Colours and edges stand beside the head (factor 0.50)" in page
    assert "--no-ngrams" not in page


def test_report_lists_what_was_tried(result: FitResult) -> None:
    stages = [
        TriedStrategy("head", 0.4321, 1.0, 66, kept=False, epochs=None),
        TriedStrategy("last-4", 0.1234, 20.5, 1234, kept=True, epochs=None),
    ]
    training = replace(result.training, stages=stages, stopped="time is up", refitted=False)
    page = render_html(replace(result, training=training), [], DRAWN)
    rows = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr><td>(?:head|last-4)<.*</tr>", page)]
    assert rows == [["head", "0.4321", "1.0", "not", "kept"], ["last-4", "0.1234", "20.5", "kept"]]
    assert "it went no further, since time is up" in page


def test_a_line_below_a_word_says_what_its_ngrams_do(result: FitResult) -> None:
    shaded = replace(MISTAKE, shaded=[("win", 2.0, -1.0), (" ", 0.0, 0.0)])
    page = render_html(with_settings(result, baseline_factor=0.4), [shaded], DRAWN)
    style = "background: rgba(46, 160, 67, 0.50); border-bottom: 3px solid rgba(248, 81, 73, 0.25)"
    assert f'<span style="{style}">win</span>' in page
    assert "a line below a word says the same of the word and character n-grams alone" in page
