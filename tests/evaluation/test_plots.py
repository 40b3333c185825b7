"""Figures: drawn from the numbers that they stand for, in the page's colours, without the network."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import precision_score, recall_score

from rehead.evaluation.plots import curves, depth_profile, learning_curve, reliability, thresholds, training_curve

NAMES = ("ham", "<spam & co> $1$", "news")


def case(n: int = 200, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, n_classes, n)
    return softmax(generator.normal(size=(n, n_classes)) + 2 * np.eye(n_classes)[labels], axis=1), labels


def drawings() -> dict[str, str]:
    probabilities, labels = case()
    return {
        "reliability": reliability(probabilities, labels),
        "curves": curves(probabilities, labels, NAMES),
        "learning": learning_curve([32, 64, 128], [[0.3, 0.2], [0.2, 0.2], [0.1, 0.15]]),
        "training": training_curve({"last-4": [0.5, 0.4, 0.3], "full": [0.5, 0.3, 0.35, 0.2]}),
        "profile": depth_profile({"last": {1: 0.5, 2: 0.4}, "mean": {1: 0.6, 2: 0.3}}, 2),
    }


@pytest.mark.parametrize("name", ["reliability", "curves", "profile", "training", "learning"])
def test_drawing_is_svg_in_the_pages_colours_that_asks_for_nothing(name: str) -> None:
    drawing = drawings()[name]
    assert {each.tag for each in ElementTree.fromstring(f"<div>{drawing}</div>")} == {"svg"}
    assert ("var(--series-1)" if name in ("curves", "profile", "training") else "var(--accent)") in drawing
    assert not re.search(r"#0[147]0[258]0[369]|#0a0b0[1-6]", drawing)
    assert "http" not in drawing
    assert not re.search(r'(?:href|src)="[^#]', drawing)
    assert drawing == drawings()[name]


def test_counts_of_the_bins_add_up_to_all_predictions() -> None:
    shown = re.findall(r"<text[^>]*>([\d,]+)</text>", reliability(*case()))
    assert sum(int(count.replace(",", "")) for count in shown) == 200


def test_names_of_classes_are_escaped() -> None:
    assert "&lt;spam &amp; co&gt; $1$" in drawings()["curves"]


@pytest.mark.parametrize("labels", [[0, 0, 0], [1]])
def test_one_class_alone_draws_no_curve_and_no_error(labels: list[int]) -> None:
    probabilities = np.full((len(labels), 2), 0.5)
    assert curves(probabilities, np.array(labels), ("a", "b")).startswith("<svg")
    assert reliability(probabilities, np.array(labels)).startswith("<svg")


def test_thresholds_have_the_precision_and_recall_of_scikit_learn() -> None:
    probabilities, labels = case(n=60, n_classes=2)
    told = thresholds(probabilities, labels, 1)
    assert len(told["threshold"]) > 20
    for i, at in enumerate(told["threshold"]):
        predicted = probabilities[:, 1] >= at - 1e-4
        assert told["precision"][i] == pytest.approx(precision_score(labels == 1, predicted, zero_division=1), abs=0.03)
        assert told["recall"][i] == pytest.approx(recall_score(labels == 1, predicted), abs=0.03)
        assert told["predicted"][i] == pytest.approx(predicted.mean(), abs=0.03)
    assert told["threshold"] == sorted(told["threshold"])


def test_even_chance_is_among_the_thresholds_also_where_nothing_is_as_likely() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    told = thresholds(probabilities, np.array([0, 0, 1]), 1)
    assert told == {
        "threshold": [0.1, 0.2, 0.4, 0.5],
        "precision": [0.3333, 0.5, 1.0, 1.0],
        "recall": [1.0, 1.0, 1.0, 0.0],
        "predicted": [1.0, 0.6667, 0.3333, 0.0],
    }
